from pathlib import Path

import pytest
import torch

from models.bundle import load_bundle, verify_bundle
from models.errors import WeightsError
from models.face_detector import FaceDetectorConfig, FaceDetectorNetwork
from models.honestface import HonestFace
from models.identity_network import IdentityNetwork, IdentityNetworkConfig
from models.landmark_network import LandmarkNetwork, LandmarkNetworkConfig
from models.profiles import TINY
from training.components import save_component, save_components
from training.pack import pack


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all stages export, with random weights."""
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    tools = {
        "detector": FaceDetectorNetwork(FaceDetectorConfig()),
        "landmarks": LandmarkNetwork(LandmarkNetworkConfig()),
        "identity": IdentityNetwork(IdentityNetworkConfig()),
    }
    for name in ("honestface", *tools):
        (folder / name).mkdir()
    save_components(HonestFace(TINY), folder / "honestface")
    for name, network in tools.items():
        save_component(network, folder / name / f"{name}.safetensors")
    return folder


def test_finished_runs_become_a_bundle_that_loads(runs: Path, tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.json"
    metrics.write_text('{"psnr": 24.5}')
    out = tmp_path / "bundle"
    manifest = pack(runs, out, "1.2.3", 62.0, metrics)
    assert verify_bundle(out).model_dump_json() == manifest.model_dump_json()
    assert (manifest.version, manifest.profile, manifest.matching_angle) == ("1.2.3", "tiny", 62.0)
    assert manifest.metrics == {"psnr": 24.5}
    assert sum(path.stat().st_size for path in out.iterdir()) < 30e6  # what may lie in the repository
    bundle = load_bundle(out)
    assert bundle.analyzer.matching_angle == 62.0
    with torch.inference_mode():
        assert bundle.generator(torch.zeros(1, 3, 512, 512)).restored.isfinite().all()


def test_a_run_that_is_not_finished_is_named(runs: Path, tmp_path: Path) -> None:
    (runs / "identity" / "identity.safetensors").rename(tmp_path / "kept")
    with pytest.raises(WeightsError, match=r"identity\.safetensors is missing: train that stage first"):
        pack(runs, tmp_path / "bundle", "1", 60.0, None)
    (tmp_path / "kept").rename(runs / "identity" / "identity.safetensors")
    assert not (tmp_path / "bundle").exists()
