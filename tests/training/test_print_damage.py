from dataclasses import replace

import numpy as np
import pytest
import torch

from training.print_damage import PrintDamage, grain, halftone, print_damage, scratch

NOTHING = PrintDamage(halftone=0, grain=0, scratches=0)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def flat(tone: float, side: int = 128) -> torch.Tensor:
    return torch.full((1, 3, side, side), tone)


def test_with_no_chances_nothing_is_damaged() -> None:
    assert torch.equal(print_damage(flat(0.4), NOTHING, rng()), flat(0.4))


def test_dots_and_grain_exclude_each_other_and_scratches_come_on_top() -> None:
    everything = PrintDamage(halftone=1, grain=1, grey_grain=1, scratches=0)
    dots = print_damage(flat(0.5), everything, rng())
    grains = print_damage(flat(0.5), replace(everything, halftone=0), rng())
    assert float(dots.std()) > 0.25  # ink and paper
    assert 0 < float(grains.std()) < 0.25 and torch.equal(grains[:, 0], grains[:, 2])
    worn = [print_damage(flat(0.5), replace(NOTHING, scratches=1), rng(seed)) for seed in range(4)]
    assert any(float((picture - 0.5).abs().max()) > 0.1 for picture in worn)


@pytest.mark.parametrize("grey", [True, False])
def test_grain_has_the_sigma_that_it_is_given(grey: bool) -> None:
    noise = grain(flat(0.5), 0.1, grey, rng()) - 0.5
    assert float(noise.std()) == pytest.approx(0.1, rel=0.05)
    assert torch.equal(noise[:, 0], noise[:, 1]) is grey


def test_the_mean_of_the_dots_is_the_tone() -> None:
    means = [float(halftone(flat(tone), 5, True, rng()).mean()) for tone in (0.1, 0.3, 0.5, 0.7, 0.9)]
    assert means == sorted(means)
    assert means[2] == pytest.approx(0.5, abs=0.02)
    assert means[0] < 0.2 and means[4] > 0.8


@pytest.mark.parametrize("period", [3.0, 6.0])
def test_dots_are_a_period_apart(period: float) -> None:
    for seed in range(6):
        power = torch.fft.fft2(halftone(flat(0.5), period, seed < 3, rng(seed))[0, 0] - 0.5).abs()
        at = divmod(int(power.argmax()), 128)
        frequency = np.hypot(*(min(place, 128 - place) / 128 for place in at))
        assert frequency == pytest.approx(1 / period, rel=0.05)


def test_dots_of_colours_have_their_own_screens() -> None:
    one, other = (halftone(flat(0.5), 5, grey, rng()) for grey in (True, False))
    assert torch.equal(one[:, 0], one[:, 1]) and not torch.equal(other[:, 0], other[:, 1])


def test_half_of_the_halftones_are_grey() -> None:
    screens = PrintDamage(halftone=1, scratches=0)
    outs = [print_damage(flat(0.5, 32), screens, rng(seed)) for seed in range(60)]
    grey = sum(torch.equal(out[:, 0], out[:, 1]) for out in outs)
    assert 18 < grey < 42


def test_scratches_are_thin_light_and_dark() -> None:
    outs = [scratch(flat(0.5), rng(seed)) for seed in range(30)]
    changed = [float((out - 0.5).abs().gt(0.02).float().mean()) for out in outs]
    assert 0 < float(np.mean(changed)) < 0.15 and max(changed) < 0.4
    assert all(float(out.min()) >= 0 and float(out.max()) <= 1 for out in outs)
    assert sum(float(out.max()) > 0.7 for out in outs) > 10 and sum(float(out.min()) < 0.3 for out in outs) > 10


def test_a_larger_picture_has_wider_scratches() -> None:
    share = [np.mean([float((scratch(flat(0.5, s), rng(n)) - 0.5).abs().mean()) for n in range(20)]) for s in (64, 256)]
    assert 0.4 < share[0] / share[1] < 2.5
