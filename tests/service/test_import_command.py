"""The commands around the converters; what these do is tested in tests/models."""

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from typer.testing import CliRunner

import models.import_face_tools
import models.import_osdface
from models.base_model import locate_base_model
from models.errors import WeightsError
from service.cli import app

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
    arcface, fan = Calls(), Calls()
    monkeypatch.setattr(models.import_face_tools, "import_arcface", arcface)
    monkeypatch.setattr(models.import_face_tools, "import_fan", fan)
    for name in ("arcface", "fan"):
        result = CliRunner().invoke(app, ["bundle", f"import-{name}", "--weights", "w.pth", "--bundle", "b"])
        assert result.exit_code == 0, result.output
    assert arcface == [((Path("w.pth"), Path("b"), 73.7), {})]
    assert fan == [((Path("w.pth"), Path("b")), {})]


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
