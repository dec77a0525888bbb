import math

import pytest
import torch

from training.images import psnr
from training.psnr_loss import psnr_loss

TRUTH = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5


def test_the_truth_costs_nothing() -> None:
    assert float(psnr_loss(TRUTH, TRUTH)) == 0.0


def test_known_errors() -> None:
    wrong = TRUTH + torch.tensor([0.1, 0.01]).view(2, 1, 1, 1)
    assert float(psnr_loss(wrong, TRUTH)) == pytest.approx((math.log(101) + math.log(2)) / 2, rel=1e-4)


def test_a_decibel_is_worth_the_same_for_a_poor_and_for_a_good_picture() -> None:
    noise = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    truth = TRUTH[:1]
    for size in (0.12, 0.06):
        better, worse = truth + size * noise, truth + size * 10**0.05 * noise
        decibels = float(psnr(better, truth) - psnr(worse, truth))
        assert decibels == pytest.approx(1.0, abs=1e-3)
        assert float(psnr_loss(worse, truth) - psnr_loss(better, truth)) == pytest.approx(0.23, abs=0.01)


def test_each_picture_pulls_with_the_share_of_its_own_error() -> None:
    """A few wrong pixels of a sharp picture beside a picture that is wrong all over."""
    restored = TRUTH.clone().requires_grad_(True)
    wrong = torch.zeros_like(TRUTH)
    wrong[0], wrong[1, :, 3] = 0.4, 0.4
    psnr_loss(restored + wrong, TRUTH).backward()
    assert restored.grad is not None
    blurred, scratch = restored.grad[0, 0, 3, 0], restored.grad[1, 0, 3, 0]
    assert float(scratch / blurred) == pytest.approx(16, rel=0.02)
