"""Every stage from its command with its shipped settings, one step on a handful of drawn faces, one after the other."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from typer.testing import CliRunner

import training
from models.bundle import load_bundle
from training.cli import app
from training.restoration_data import RestorationDataset, held_out_samples
from training.stage import Batch
from training.stages import baseline, honestface, vre

pytestmark = pytest.mark.slow
CONFIGS = Path(training.__file__).parent / "configs"
LEAN = {"steps": 1, "batch": 2, "workers": 0, "threads": 1, "precision": "fp32", "warmup": 0}


def two_held_out(dataset: RestorationDataset, count: int) -> Batch:
    return held_out_samples(dataset, 1)


@pytest.fixture(autouse=True)
def few_held_out(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    for stage in (vre, baseline, honestface):
        monkeypatch.setattr(stage, "held_out_samples", two_held_out)
    yield
    AcceleratorState._reset_state(True)
    torch.set_num_threads(threads)


def test_from_nothing_to_a_bundle(face_folder: Path, vgg16_file: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    data = tmp_path / "faces"
    shutil.copytree(face_folder, data)

    def train(stage: str, name: str | None = None, **settings: object) -> None:
        AcceleratorState._reset_state(True)
        values = LEAN | {"data": data, "run": runs / (name or stage)} | settings
        command = ["train", stage, "--config", str(CONFIGS / f"{name or stage}.yaml")]
        for key, value in values.items():
            command += ["--set", f"{key}={value}"]
        result = CliRunner().invoke(app, command, catch_exceptions=False)
        assert result.exit_code == 0 and "validation" in result.output

    train("detector", faces=data, extra="[]")
    train("landmarks", extra="[]")
    train("identity", extra="[]")
    train("vae", vgg16=vgg16_file)
    train("vre", association_from=0)
    blind = {"vae": runs / "vae" / "vae.safetensors", "vre": runs / "vre" / "vre.safetensors"}
    squares = {"crop_side": 128, "decoded_side": 64, "feature_side": 32, "feature_gan_side": 64}
    squares |= {"perceptual": f"{{kind: vgg16-features, backbone: {vgg16_file}}}"}
    train("baseline", **blind, **squares)
    train("baseline", "texture", **blind, **squares, warm_start=runs / "baseline")
    train(
        "honestface",
        **squares,
        baseline=runs / "texture",
        landmarks=runs / "landmarks" / "landmarks.safetensors",
        identity=runs / "identity" / "identity.safetensors",
        recognisers="[]",
        warm_start="null",
    )
    bundle = tmp_path / "bundle"
    packed = ["pack", "--runs", str(runs), "--out", str(bundle), "--version", "0.0.0", "--matching-angle", "60"]
    assert CliRunner().invoke(app, packed, catch_exceptions=False).exit_code == 0
    assert load_bundle(bundle).generator.takes_references
