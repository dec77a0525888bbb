import math

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
    assert found.angle == pytest.approx(80, abs=1e-3)


def test_people_that_are_mixed_up() -> None:
    embeddings = at(0, 90, 1, 91)
    found = verify(embeddings, embeddings, ["a", "a", "b", "b"])
    # right pairs at 90 degrees, wrong ones at 1, 89, 1 and 91; a picture is not compared with itself
    assert found.auc == pytest.approx(0.25)
    assert found.true_accepts == 0


def test_one_person_alone_says_nothing() -> None:
    embeddings = at(0, 10)
    found = verify(embeddings, embeddings, ["a", "a"])
    assert all(math.isnan(value) for value in (found.auc, found.true_accepts, found.angle))


def test_probes_are_compared_with_the_gallery() -> None:
    gallery, probes = at(0, 10, 90, 100), at(95, 95, 5, 5)
    assert verify(probes, gallery, ["a", "a", "b", "b"]).auc == 0


def test_the_angle_that_a_twentieth_of_strangers_stay_below() -> None:
    """Everybody's probe at 0 degrees, against strangers at 20, 21, ... 119."""
    gallery = at(*(20.0 + number for number in range(100)))
    found = verify(at(0).expand(100, 2), gallery, [f"person {number}" for number in range(100)])
    assert found.angle == pytest.approx(24.5, abs=0.6)
