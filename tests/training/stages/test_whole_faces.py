"""How many faces a step of the reference-conditioned stage sees whole."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from training.stages import honestface
from training.stages.honestface import HonestFaceStage, HonestFaceStageConfig


class Looked(HonestFaceStage):
    """Only counts the faces that a step sees."""

    def __init__(self, config: HonestFaceStageConfig) -> None:
        self.config = config
        self.network: Any = SimpleNamespace(vae=SimpleNamespace(encode=lambda pictures: pictures))
        self.seen: list[tuple[bool, int]] = []

    def condition(self, batch: Any) -> Any:
        return None, None, None

    def _square(self, given: Any, whole: bool, step: int) -> dict[str, Tensor]:
        self.seen.append((whole, len(given.truth)))
        return {}


@pytest.mark.parametrize(
    ("face_every", "expected"), [(1, [(True, 6), (True, 6)]), (2, [(False, 6), (True, 4)])], ids=["all", "every other"]
)
def test_steps_are_cut_to_fewer_faces_only_beside_steps_of_squares(
    face_every: int, expected: list[tuple[bool, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The paper's setting sees whole faces at each step: there `batch` says how many."""
    monkeypatch.setattr(honestface, "visual_prompt", lambda *_: None)
    stage = Looked(HonestFaceStageConfig.model_construct(face_every=face_every, face_batch=4, squares=1))
    for step in range(2):
        stage.losses({name: torch.zeros(6, 3, 8, 8) for name in ("truth", "lq")}, step)
    assert stage.seen == expected
