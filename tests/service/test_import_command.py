"""The commands around the converters; what these do is tested in tests/models."""

import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from typer.testing import CliRunner

import models.import_face_tools
import models.import_osdface
from models.base_model import locate_base_model
from models.bundle import TINY_BUNDLE, verify_bundle
from models.errors import WeightsError
from models.insightface_tools import ScrfdConfig
from service.cli import app
from tests.models.small_onnx import save_arcface, save_scrfd

FILES = ("--lora", "l.safetensors", "--vre", "v.ckpt", "--projection", "p.pth", "--out", "out")


class Calls(list[tuple[tuple[Any, ...], dict[str, Any]]]):
    def __call__(self, *arguments: Any, **named: Any) -> str:
        self.append((arguments, named))
        return "downloaded"


def test_import_osdface_passes_everything_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = Calls()
    monkeypatch.setattr(models.import_osdface, "import_osdface", calls)
    options = ("--precision", "float16", "--lora-alpha", "8", "--face-tools", "tools")
    result = CliRunner().invoke(app, ["bundle", "import-osdface", "--base", str(tmp_path), *FILES, *options])
    assert result.exit_code == 0, result.output
    paths = (tmp_path, Path("l.safetensors"), Path("v.ckpt"), Path("p.pth"), Path("out"))
    assert calls == [(paths, {"face_tools": Path("tools"), "alpha": 8.0, "dtype": torch.float16})]


def test_face_tools_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    scrfd, arcface, fan = Calls(), Calls(), Calls()
    monkeypatch.setattr(models.import_face_tools, "import_scrfd", scrfd)
    monkeypatch.setattr(models.import_face_tools, "import_arcface", arcface)
    monkeypatch.setattr(models.import_face_tools, "import_fan", fan)
    for name in ("scrfd", "arcface", "fan"):
        result = CliRunner().invoke(app, ["bundle", f"import-{name}", "--weights", "w.pth", "--bundle", "b"])
        assert result.exit_code == 0, result.output
    assert scrfd == [((Path("w.pth"), Path("b"), 0.5), {})]
    assert arcface == [((Path("w.pth"), Path("b"), 73.7), {})]
    assert fan == [((Path("w.pth"), Path("b")), {})]


def test_onnx_files_become_face_tools_of_a_copied_bundle(tmp_path: Path) -> None:
    bundle = shutil.copytree(TINY_BUNDLE, tmp_path / "bundle")
    save_scrfd(tmp_path / "det_10g.onnx")
    save_arcface(tmp_path / "w600k_r50.onnx", 128)
    for name, file, options in (
        ("scrfd", "det_10g.onnx", ["--threshold", "0.4"]),
        ("arcface", "w600k_r50.onnx", ["--matching-angle", "70"]),
    ):
        command = ["bundle", f"import-{name}", "--weights", str(tmp_path / file), "--bundle", str(bundle), *options]
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0 and result.output.rstrip().endswith(f"is now {file}"), result.output
    manifest = verify_bundle(bundle)
    assert manifest.face_tools.detector == ScrfdConfig(0.4) and manifest.matching_angle == 70.0
    shown = CliRunner().invoke(app, ["bundle", "show", str(bundle)]).output
    assert "  detector.onnx\n" in shown and "  identity.onnx\n" in shown and "detector.safetensors" not in shown


def test_a_threshold_is_a_share(tmp_path: Path) -> None:
    command = ["bundle", "import-scrfd", "--weights", "d.onnx", "--bundle", str(tmp_path), "--threshold", "1.5"]
    assert CliRunner().invoke(app, command).exit_code == 2


def test_nothing_is_downloaded_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", calls)
    result = CliRunner().invoke(app, ["bundle", "import-osdface", "--base", "someone/sd-2-1-base", *FILES])
    assert isinstance(result.exception, WeightsError)
    assert "--allow-download" in str(result.exception)
    assert calls == []


def test_a_hub_id_is_downloaded_when_allowed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = Calls()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", calls)
    assert locate_base_model(str(tmp_path), allow_download=True) == tmp_path
    assert calls == []
    assert locate_base_model("someone/sd-2-1-base", allow_download=True) == Path("downloaded")
    (arguments, named) = calls[0]
    assert arguments == ("someone/sd-2-1-base",)
    assert "unet/diffusion_pytorch_model.safetensors" in named["allow_patterns"]


def test_a_failing_download_is_one_line() -> None:
    with pytest.raises(WeightsError, match="not a hub id at all cannot be downloaded"):
        locate_base_model("not a hub id at all", allow_download=True)
