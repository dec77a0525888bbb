from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from models.references import References
from tests.toy_faces import ToyGenerated, ToyGenerator


@dataclass
class Recording(ToyGenerator):
    """A toy generator that keeps the strength and the seed of each face."""

    asked: list[tuple[float, int | None]] = field(default_factory=list)

    def __call__(
        self,
        lq: Tensor,
        references: References | None = None,
        landmarks: Tensor | None = None,
        identity: Tensor | None = None,
        strength: float | Tensor = 1.0,
        seeds: Sequence[int | None] | None = None,
    ) -> ToyGenerated:
        self.asked += zip(torch.as_tensor(strength).tolist(), seeds or (), strict=True)
        return super().__call__(lq, references, landmarks, identity, strength, seeds)
