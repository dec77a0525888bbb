"""Toy engines and restorers that Ray's worker processes make for themselves: what is sent to them is only a name."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from models.face_restorer import FaceRestorer
from models.references import References
from service.engine import Engine
from tests.service.running import Steerable, toy_engine
from tests.toy_faces import ToyGenerated, ToyGenerator, analyzer


def slow_engine() -> Engine:
    """Takes a quarter of a second a face without using the processor: on one core replicas work side by side."""
    return toy_engine(Steerable(seconds=0.25))


@dataclass
class DeadlyGenerator(ToyGenerator):
    """Ends its process on a face that is much darker than the others."""

    def __call__(
        self,
        lq: Tensor,
        references: References | None = None,
        landmarks: Tensor | None = None,
        identity: Tensor | None = None,
        strength: float | Tensor = 1.0,
        seeds: Sequence[int | None] | None = None,
    ) -> ToyGenerated:
        if float(lq[:, :, 300, 256].mean()) < -0.3:
            os._exit(1)
        return super().__call__(lq, references, landmarks, identity, strength, seeds)


def deadly_restorer(bundle: Path | None, device: str, precision: str = "auto") -> FaceRestorer:
    return FaceRestorer(DeadlyGenerator(), analyzer())
