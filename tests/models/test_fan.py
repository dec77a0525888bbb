import builtins
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.errors import HonestFaceError, WeightsError
from models.face_analyzer import LandmarkDetector
from models.fan import FanConfig, FanLandmarkDetector, fan, fan_config_for, peak_positions


def gaussians(points: Tensor, size: int = 64, sigma: float = 1.0) -> Tensor:
    """Heatmaps `[B, N, size, size]` with their peaks at `points` `[B, N, 2]`."""
    cells = torch.arange(size, dtype=torch.float32)
    columns = (cells - points[..., :1]).square()
    rows = (cells - points[..., 1:]).square()
    return torch.exp(-(rows[..., :, None] + columns[..., None, :]) / (2 * sigma**2))


class Heatmaps(nn.Module):
    """Stands in for a FAN: the last of its outputs is given."""

    def __init__(self, heatmaps: Tensor) -> None:
        super().__init__()
        self.heatmaps = heatmaps
        self.seen: Tensor | None = None

    def forward(self, pictures: Tensor) -> list[Tensor]:
        self.seen = pictures
        return [torch.zeros_like(self.heatmaps), self.heatmaps]


def test_peaks_are_found_between_cells() -> None:
    torch.manual_seed(0)
    points = 2 + 60 * torch.rand(2, 68, 2)
    assert (peak_positions(gaussians(points)) - points).abs().max() < 1e-2


def test_peaks_at_the_rim_and_flat_maps_stay_finite() -> None:
    points = torch.tensor([[[0.0, 63.0], [63.0, 0.0], [0.0, 20.25]]])
    assert torch.allclose(peak_positions(gaussians(points)), points, atol=1e-3)
    flat = peak_positions(torch.zeros(1, 3, 64, 64))
    assert flat.isfinite().all() and (flat >= 0).all() and (flat < 64).all()


@pytest.mark.parametrize("side", [128, 256, 512])
def test_points_are_in_the_crops_pixels(side: int) -> None:
    # A peak in the very middle of the map, between cells 31 and 32, is the middle of the crop.
    network = Heatmaps(gaussians(torch.full((1, 68, 2), 31.5)) * 1.1)
    detector: LandmarkDetector = FanLandmarkDetector(network, "stand-in")
    found = detector.landmarks(torch.full((1, 3, side, side), -1.0))
    assert torch.allclose(found.points, torch.full((1, 68, 2), (side - 1) / 2), atol=1e-2 * side / 64)
    assert found.heatmaps.shape == (1, 68, 64, 64)
    assert found.heatmaps.min() >= 0 and found.heatmaps.max() <= 1
    assert network.seen is not None and network.seen.shape == (1, 3, 256, 256)
    assert network.seen.abs().max() < 1e-6  # -1 has become 0


def test_weights_of_the_library_are_read(tmp_path: Path) -> None:
    from face_alignment.models import FAN

    torch.manual_seed(0)
    network = FAN(1).eval()
    save_file(network.state_dict(), tmp_path / "fan.safetensors")
    state = load_file(tmp_path / "fan.safetensors")
    again = fan(fan_config_for(state, "fan.pt"))
    again.load_state_dict(state)
    detector = FanLandmarkDetector(again, "fan")
    crops = torch.rand(1, 3, 256, 256) * 2 - 1
    with torch.no_grad():
        found = detector.landmarks(crops)
        assert torch.equal(found.heatmaps, network((crops + 1) / 2)[-1].clamp(0, 1))
    assert found.points.shape == (1, 68, 2) and detector.name == "fan"


def test_other_weights_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"other\.pt.*m0\.b1_4\.bn1\.weight"):
        fan_config_for({"conv1.weight": torch.zeros(1)}, "other.pt")


def test_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("face_alignment"):
            raise ImportError("No module named 'face_alignment'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(HonestFaceError, match=r"pip install honestface\[facetools\]"):
        fan(FanConfig(4))
