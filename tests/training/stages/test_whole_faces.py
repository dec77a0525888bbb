"""How many faces a step of a restoration stage sees whole."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from training.stages.baseline import BaselineConfig, BaselineStage


class Looked(BaselineStage):
    """Only counts the faces that a step sees."""

    def __init__(self, config: BaselineConfig) -> None:
        self.config = config
        self.seen: list[tuple[bool, int]] = []

    def given(self, truth: Tensor, lq: Tensor, batch: Any) -> Any:
        return SimpleNamespace(truth=truth)

    def _square(self, given: Any, whole: bool, step: int) -> dict[str, Tensor]:
        self.seen.append((whole, len(given.truth)))
        return {}


@pytest.mark.parametrize(
    ("face_every", "expected"), [(1, [(True, 6), (True, 6)]), (2, [(False, 6), (True, 4)])], ids=["all", "every other"]
)
def test_steps_are_cut_to_fewer_faces_only_beside_steps_of_squares(
    face_every: int, expected: list[tuple[bool, int]]
) -> None:
    """The paper's setting sees whole faces at each step: there `batch` says how many."""
    stage = Looked(BaselineConfig.model_construct(face_every=face_every, face_batch=4, squares=1, identity_weight=0.5))
    for step in range(2):
        stage.losses({name: torch.zeros(6, 3, 8, 8) for name in ("truth", "lq")}, step)
    assert stage.seen == expected


def test_without_an_identity_loss_no_face_is_seen_whole() -> None:
    stage = Looked(BaselineConfig.model_construct(face_every=1, face_batch=4, squares=1, identity_weight=0.0))
    stage.losses({name: torch.zeros(6, 3, 8, 8) for name in ("truth", "lq")}, 0)
    assert stage.seen == [(False, 6)]
