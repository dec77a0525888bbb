import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.honestface import HonestFace
from models.lattice import without_lattice
from models.profiles import TINY


def gentle() -> Tensor:
    """Slopes and a soft hill `[1, 3, 128, 128]`, as skin has them."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 128), torch.linspace(-1, 1, 128), indexing="ij")
    return torch.stack([0.3 * x, 0.2 * y, 0.5 * torch.exp(-4 * (x**2 + y**2))])[None]


def pattern(levels: float) -> Tensor:
    tile = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0)).clamp(-2, 2)
    return levels / 127.5 / 2 * (tile - tile.mean((1, 2), keepdim=True)).repeat(1, 16, 16)[None]


@pytest.mark.parametrize("levels", [4.0, 12.0])
def test_a_pattern_on_gentle_slopes_is_taken_out(levels: float) -> None:
    clean = gentle()
    found = without_lattice(clean + pattern(levels), 8)
    before = pattern(levels).abs().mean()
    assert (found - clean)[..., 8:-8, 8:-8].abs().mean() < 0.1 * before
    assert (found - clean).abs().max() < 0.4 * levels / 127.5


def test_what_has_no_pattern_stays() -> None:
    assert (without_lattice(gentle(), 8) - gentle()).abs().max() < 0.5 / 127.5
    noise = gentle() + 10 / 127.5 * torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    assert (without_lattice(noise, 8) - noise).square().mean().sqrt() < 2 / 127.5


def test_a_hard_edge_leaves_a_faint_ghost_at_most() -> None:
    edge = torch.zeros(1, 3, 128, 128)
    edge[..., 67:] = 1.0
    assert (without_lattice(edge, 8) - edge).abs().max() < 2.5 / 127.5


def test_means_are_those_of_pooling_with_the_edge_repeated() -> None:
    def mean(values: Tensor, side: int) -> Tensor:
        return F.avg_pool2d(F.pad(values, (side // 2,) * 4, mode="replicate"), side, stride=1)

    image = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(2)) * 2 - 1
    detail = (image - mean(image, 9)).clamp(-16 / 127.5, 16 / 127.5)
    expected = image - F.pixel_shuffle(mean(F.pixel_unshuffle(detail, 8), 7), 8)
    assert torch.allclose(without_lattice(image, 8), expected, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(without_lattice(image, 8), expected, atol=1e-6)


def test_the_tiny_profile_is_cleaned_of_its_two_finest_strides() -> None:
    assert TINY.lattice == 4 * HonestFace(TINY).vae.patch
