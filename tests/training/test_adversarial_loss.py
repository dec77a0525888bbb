import math

import pytest
import torch
from torch import nn

from training.adversarial_loss import discriminator_loss, generator_loss, r1_penalty


def test_equation_5_on_known_probabilities() -> None:
    """Scores are logits: D = 0.25 and 0.8."""
    restored, real = torch.tensor([math.log(0.25 / 0.75)]), torch.tensor([math.log(0.8 / 0.2)])
    assert float(generator_loss(restored, "non-saturating")) == pytest.approx(-math.log(0.25))
    expected = -math.log(1 - 0.25) - math.log(0.8)
    assert float(discriminator_loss(restored, real, "non-saturating")) == pytest.approx(expected)


def test_hinge_on_known_scores() -> None:
    restored, real = torch.tensor([-2.0, 0.5]), torch.tensor([0.25, 3.0])
    assert float(generator_loss(restored, "hinge")) == pytest.approx(0.75)
    assert float(discriminator_loss(restored, real, "hinge")) == pytest.approx((0 + 1.5) / 2 + (0.75 + 0) / 2)


def test_the_slope_of_a_plane_is_known() -> None:
    plane = nn.Linear(3, 1, bias=False)
    nn.init.constant_(plane.weight, 2.0)
    real = torch.randn(5, 3, requires_grad=True)
    penalty = r1_penalty(plane(real), real)
    assert float(penalty.detach()) == pytest.approx(3 * 2.0**2 / 2)
    penalty.backward()
    assert plane.weight.grad is not None
    assert torch.allclose(plane.weight.grad, torch.full((1, 3), 2.0))
