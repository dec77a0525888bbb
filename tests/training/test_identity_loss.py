import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.identity_loss import identity_loss


class MeanColour:
    """A recogniser that tells people by their mean colour."""

    name, width = "mean colour", 3

    def __init__(self, sign: float = 1.0) -> None:
        self.sign = sign

    def embed(self, faces: Tensor) -> Tensor:
        return F.normalize(self.sign * faces.mean((2, 3)), dim=1)


def faces(*colours: tuple[float, float, float]) -> Tensor:
    return torch.tensor(colours)[:, :, None, None].expand(-1, -1, 8, 8).clone()


RED, OPPOSITE, GREEN = (0.5, 0.0, 0.0), (-0.5, 0.0, 0.0), (0.0, 0.7, 0.0)


@pytest.mark.parametrize(("other", "loss"), [(RED, 0.0), (GREEN, 1.0), (OPPOSITE, 2.0)])
def test_one_minus_the_cosine(other: tuple[float, float, float], loss: float) -> None:
    assert float(identity_loss(faces(other), faces(RED), [MeanColour()])) == pytest.approx(loss, abs=1e-6)


def test_a_sum_over_recognisers_and_a_mean_over_the_batch() -> None:
    restored, truth = faces(RED, GREEN), faces(OPPOSITE, GREEN)
    assert float(identity_loss(restored, truth, [MeanColour()])) == pytest.approx(1.0)
    assert float(identity_loss(restored, truth, [MeanColour(), MeanColour(-1)])) == pytest.approx(2.0)


def test_gradients_reach_the_restored_face_alone() -> None:
    restored, truth = faces((0.5, 0.1, 0.0)).requires_grad_(), faces(RED).requires_grad_()
    identity_loss(restored, truth, [MeanColour()]).backward()
    assert restored.grad is not None and restored.grad.any()
    assert truth.grad is None
