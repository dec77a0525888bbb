import math

import pytest
import torch
import torch.nn.functional as F

from training.spectrum_loss import spectrum_loss


def grain(levels: float = 8, seed: int = 0, side: int = 256) -> torch.Tensor:
    """White noise of a deviation in grey levels, the same in all colours."""
    noise = torch.randn(2, 1, side, side, generator=torch.Generator().manual_seed(seed))
    return levels / 127.5 * noise.expand(-1, 3, -1, -1)


def test_nothing_between_a_picture_and_itself() -> None:
    assert float(spectrum_loss(grain(), grain())) == 0


def test_a_known_value() -> None:
    """Twice the deviation is four times the power; both with the white noise of one grey level that is added."""
    expected = math.log((16**2 + 1) / (8**2 + 1))
    assert float(spectrum_loss(grain(16), grain(8))) == pytest.approx(expected, rel=0.02)


def test_where_texture_lies_costs_little_and_its_absence_much() -> None:
    other, moved, flat = grain(seed=1), grain().roll((5, 7), (2, 3)), torch.zeros(2, 3, 256, 256)
    assert float(spectrum_loss(other, grain())) < 0.6
    assert float(spectrum_loss(moved, grain())) < 0.6
    assert float(spectrum_loss(flat, grain())) == pytest.approx(math.log(65), rel=0.05)


def test_a_pattern_of_the_same_deviation_costs_more_than_other_grain() -> None:
    tile = grain(side=16, seed=2).repeat(1, 1, 16, 16)
    tile = tile * grain().std() / tile.std()
    assert float(spectrum_loss(tile, grain())) > 2 * float(spectrum_loss(grain(seed=1), grain()))


def test_what_is_coarse_costs_nothing() -> None:
    rows = torch.linspace(0, 8 * math.pi, 256).sin().view(1, 1, -1, 1) * 0.3  # a period of 64 px
    assert float(spectrum_loss(grain() + rows, grain())) < 0.02


def test_what_is_below_a_grey_level_is_not_seen_and_gradients_stay_finite() -> None:
    flat = torch.zeros(1, 3, 64, 64, requires_grad=True)
    loss = spectrum_loss(flat, grain(0.2, side=64)[:1])
    loss.backward()
    assert float(loss.detach()) < 0.05
    assert flat.grad is not None and flat.grad.isfinite().all()


def test_its_gradient_makes_texture_of_faint_grain() -> None:
    faint = grain(2, side=64).clone().requires_grad_()
    start = spectrum_loss(faint, grain(8, seed=1, side=64))
    (gradient,) = torch.autograd.grad(start, faint)
    step = 0.5 / 127.5 * F.normalize(gradient.flatten(1), dim=1).view_as(gradient) * gradient[0].numel() ** 0.5
    with torch.no_grad():
        assert float(spectrum_loss(faint - step, grain(8, seed=1, side=64))) < float(start.detach())
