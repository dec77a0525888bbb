import pytest
import torch

from training.seam_loss import seam_loss


def texture(count: int = 4, side: int = 256) -> torch.Tensor:
    return 0.02 * torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_a_ramp_has_no_seams() -> None:
    rows = torch.linspace(-0.5, 0.5, 64).view(1, 1, -1, 1)
    assert float(seam_loss((rows + rows.transpose(2, 3)).expand(1, 3, 64, 64))) == pytest.approx(0, abs=1e-4)


def test_a_known_value() -> None:
    """Columns that step at every fourth border alone: e is (0, 0, 0, 4) in units of its mean; rows do not change."""
    steps = (torch.arange(64) // 4 * 4 / 127.5 - 0.5).expand(1, 3, 64, 64)
    assert float(seam_loss(steps)) == pytest.approx((1 + 1 + 1 + 3) / 4 / 2, rel=1e-4)
    assert float(seam_loss(steps.transpose(2, 3))) == pytest.approx(0.75, rel=1e-4)


def test_patches_that_do_not_meet_cost_and_texture_does_not() -> None:
    generator = torch.Generator().manual_seed(1)
    patches = 0.02 * torch.randn(4, 3, 64, 64, generator=generator)
    blocks = patches.repeat_interleave(4, 2).repeat_interleave(4, 3)
    plain, blocky = float(seam_loss(texture())), float(seam_loss(texture() + blocks))
    assert plain < 0.03 < 0.12 < blocky
    # each seam goes its own way: what is signed averages out
    assert abs(float(blocks.diff(dim=3)[..., 3::4].mean())) < 1e-3


def test_an_edge_counts_little() -> None:
    edge = texture()
    edge[..., 100:] += 1
    assert float(seam_loss(edge)) < 0.06


def test_its_gradient_takes_seams_away() -> None:
    blocks = 0.03 * torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    pictures = (texture(1, 64) + blocks.repeat_interleave(4, 2).repeat_interleave(4, 3)).requires_grad_()
    start = seam_loss(pictures)
    (gradient,) = torch.autograd.grad(start, pictures)
    with torch.no_grad():
        assert float(seam_loss(pictures - 0.005 * gradient.sign())) < 0.7 * float(start.detach())


def test_a_flat_picture_has_none() -> None:
    flat = torch.zeros(1, 3, 32, 32, requires_grad=True)
    loss = seam_loss(flat)
    loss.backward()
    assert float(loss.detach()) == 0
    assert flat.grad is not None and flat.grad.isfinite().all()
