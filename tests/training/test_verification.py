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
    assert 10 <= found.angle <= 80


def test_people_that_are_mixed_up() -> None:
    embeddings = at(0, 90, 1, 91)
    found = verify(embeddings, embeddings, ["a", "a", "b", "b"])
    # positives: 90, 90 degrees (twice each); negatives: 1, 91, 89, 1: three of four are nearer, cos 91 is not
    assert found.auc == pytest.approx(0.25)
    assert found.true_accepts == 0


def test_a_picture_is_not_compared_with_itself() -> None:
    embeddings = at(0, 40, 180)
    found = verify(embeddings, embeddings, ["a", "a", "b"])
    assert found.auc == 1  # one pair at 40 degrees, both ways; no pair at 0


def test_probes_are_compared_with_the_gallery() -> None:
    gallery, probes = at(0, 10, 90, 100), at(95, 95, 5, 5)
    assert verify(probes, gallery, ["a", "a", "b", "b"]).auc == 0


def test_the_angle_of_equal_errors() -> None:
    """Right pairs spread evenly over 0..60 degrees, wrong ones over 40..100: at 50 degrees a sixth of both is wrong."""
    right, wrong = torch.linspace(0, 60, 61), torch.linspace(40, 100, 61)
    probes, gallery = at(*[0.0] * 122), at(*right.tolist(), *wrong.tolist())
    people = ["a"] * 61 + [f"b{i}" for i in range(61)]
    # only probes of "a" against the gallery: the rest of the probes get people of their own and face away
    probes[61:] = at(-90)
    found = verify(probes, gallery, people)
    assert 45 <= found.angle <= 70
    assert math.isfinite(found.auc)
