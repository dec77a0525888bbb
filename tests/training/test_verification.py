import pytest
import torch
from torch import Tensor

from training.verification import verify


def at(*degrees: float) -> Tensor:
    """Unit embeddings in the plane."""
    angles = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def test_people_that_are_well_apart() -> None:
    embeddings = at(0, 10, 90, 100)
    found = verify(embeddings, embeddings, ["a", "a", "b", "b"])
    assert found.auc == 1 and found.true_accepts == 1
    assert 10 <= found.angle <= 80


def test_people_that_are_mixed_up() -> None:
    embeddings = at(0, 90, 1, 91)
    found = verify(embeddings, embeddings, ["a", "a", "b", "b"])
    # right pairs at 90 degrees, wrong ones at 1, 89, 1 and 91; a picture is not compared with itself
    assert found.auc == pytest.approx(0.25)
    assert found.true_accepts == 0


def test_probes_are_compared_with_the_gallery() -> None:
    gallery, probes = at(0, 10, 90, 100), at(95, 95, 5, 5)
    assert verify(probes, gallery, ["a", "a", "b", "b"]).auc == 0


def test_the_angle_of_equal_errors() -> None:
    """Right pairs at 0..60 degrees; a third of the wrong ones at 40..100, the others further: at 55 a twelfth errs."""
    right, wrong = torch.linspace(0, 60, 61).tolist(), torch.linspace(40, 100, 61).tolist()
    probes, gallery = at(*[0.0] * 61, *[-90.0] * 61), at(*right, *wrong)
    found = verify(probes, gallery, ["a"] * 61 + [f"b{number}" for number in range(61)])
    assert found.angle == pytest.approx(55, abs=2)
