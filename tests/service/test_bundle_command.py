import json
import sys
from pathlib import Path

import pytest
import torch

import honestface
from models.bundle import save_bundle
from models.face_tools import FaceToolsConfig
from models.profiles import TINY


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    manifest = {
        "name": "sample",
        "version": "2.1",
        "profile": "tiny",
        "generator": TINY,
        "face_tools": FaceToolsConfig(),
        "matching_angle": 61.5,
        "licence": "[bold]Apache-2.0",
        "provenance": "made by a test",
        "training_data": ["none"],
        "metrics": {"psnr": 25.0},
    }
    save_bundle(tmp_path / "bundle", manifest, {"vae": {"weight": torch.ones(3)}, "unet": {"weight": torch.zeros(2)}})
    return tmp_path / "bundle"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["honestface", "bundle", *arguments])
    with pytest.raises(SystemExit) as ended:
        honestface.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_verify(bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "verify", str(bundle)) == 0
    assert capsys.readouterr().out.startswith("sample 2.1: 2 files")
    weights = bundle / "unet.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert run(monkeypatch, "verify", str(bundle)) == 1
    told = capsys.readouterr().err
    assert told.startswith("honestface: ") and "unet.safetensors was altered" in told and told.count("\n") == 1
    weights.write_bytes(whole[:-1])
    assert run(monkeypatch, "verify", str(bundle)) == 1
    assert "truncated" in capsys.readouterr().err


def test_show(bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "show", str(bundle)) == 0
    shown = capsys.readouterr().out
    for part in ("sample", "2.1", "[bold]Apache-2.0", "made by a test", "61.5 degrees", "25.0"):
        assert part in shown
    for name, file in json.loads((bundle / "bundle.json").read_text())["files"].items():
        assert f"{file['sha256']}  {name}" in shown


def test_what_is_no_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("verify", "show"):
        assert run(monkeypatch, command, str(tmp_path)) == 1
        assert "is no bundle" in capsys.readouterr().err
