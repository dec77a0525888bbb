import pytest
import torch
from torch import Tensor

from models.landmark_network import HeatmapLandmarkDetector, LandmarkNetwork, LandmarkNetworkConfig, soft_argmax

SMALL = LandmarkNetworkConfig(size=64, widths=(8, 8, 8, 8), points=3)
#: Places in cells, integer = centre of a cell.
PLACES = torch.tensor([(7.3, 4.6), (10.0, 8.5), (5.25, 11.75)])


def gaussian_logits(places: Tensor, cells: int = 16, sigma: float = 1.0) -> Tensor:
    """Logits `[1, N, cells, cells]` whose softmax is a Gaussian around each place."""
    steps = torch.arange(cells)
    square = (steps - places[:, :1, None]) ** 2 + (steps[:, None] - places[:, 1:, None]) ** 2
    return (-square / (2 * sigma**2))[None]


class FixedNetwork(LandmarkNetwork):
    """Answers with Gaussians at PLACES."""

    def forward(self, crops: Tensor) -> Tensor:
        return gaussian_logits(PLACES).expand(len(crops), -1, -1, -1)


def test_the_mean_of_a_heatmap_is_sub_pixel() -> None:
    found = soft_argmax(gaussian_logits(PLACES))[0] * 16 - 0.5
    assert torch.allclose(found, PLACES, atol=0.01)


def test_zero_is_the_edge_of_the_crop() -> None:
    logits = torch.full((1, 2, 4, 8), -1e4)
    logits[0, 0, 0, 0] = logits[0, 1, 3, 7] = 0
    assert torch.allclose(soft_argmax(logits)[0], torch.tensor([(1 / 16, 1 / 8), (15 / 16, 7 / 8)]))


@pytest.mark.parametrize("side", [64, 512])
def test_points_are_in_the_crops_pixels(side: int) -> None:
    detector = HeatmapLandmarkDetector(FixedNetwork(SMALL), "fixed")
    found = detector.landmarks(torch.zeros(2, 3, side, side))
    expected = (PLACES + 0.5) * (side / 16) - 0.5
    assert torch.allclose(found.points, expected.expand(2, -1, -1), atol=0.01 * side / 16)


def test_every_heatmap_peaks_at_one() -> None:
    heatmaps = HeatmapLandmarkDetector(FixedNetwork(SMALL), "fixed").landmarks(torch.zeros(1, 3, 64, 64)).heatmaps
    assert heatmaps.shape == (1, 3, 16, 16)
    assert (heatmaps.amax((2, 3)) == 1).all() and (heatmaps >= 0).all()
    assert heatmaps[0, 1].flatten().argmax() in (8 * 16 + 10, 9 * 16 + 10)


@pytest.mark.parametrize("side", [40, 64, 200])
def test_crops_of_any_size_give_heatmaps_of_a_quarter_of_the_networks(side: int) -> None:
    torch.manual_seed(0)
    network = LandmarkNetwork(SMALL).eval()
    assert network(torch.zeros(2, 3, side, side)).shape == (2, 3, 16, 16)


def test_points_are_differentiable_in_the_crop() -> None:
    torch.manual_seed(0)
    crops = torch.rand(1, 3, 64, 64, requires_grad=True)
    HeatmapLandmarkDetector(LandmarkNetwork(SMALL), "network").landmarks(crops).points.sum().backward()
    assert crops.grad is not None and crops.grad.any()
