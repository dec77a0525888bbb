import pytest
import torch

from training.grid_loss import grid_loss


def test_a_pattern_that_repeats_from_patch_to_patch_costs_and_texture_does_not() -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(1, 4, 64, 64, generator=generator)
    texture = 0.5 * torch.randn(1, 4, 64, 64, generator=generator)
    pattern = torch.tensor([0.0, 0.0, 0.5, -0.5]).view(1, 4, 1, 1)
    assert float(grid_loss(target, target)) == 0
    assert float(grid_loss(target + pattern, target)) == pytest.approx(0.25, rel=0.02)
    assert float(grid_loss(target + texture, target)) < 0.06
    # every other place brighter, every other darker: nothing on the mean, but on the lattices of 2, 4 and 8
    stripes = 0.5 * (2 * (torch.arange(64) % 2) - 1).float().expand(1, 4, 64, 64)
    assert float(grid_loss(target + stripes, target)) == pytest.approx(0.5 * 3 / 4, rel=0.02)
