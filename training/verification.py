"""How well embeddings tell people apart: AUC, accepted pairs at a fixed false-accept rate, the angle to decide by."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Verification:
    """`auc` in 0..1, `true_accepts` in 0..1 at 0.1 % false accepts, `angle` in degrees with equal error rates."""

    auc: float
    true_accepts: float
    angle: float


def verify(probes: Tensor, gallery: Tensor, people: Sequence[str]) -> Verification:
    """All pairs of different pictures i != j of unit embeddings `[N, d]`: probe i against gallery j."""
    cosines = probes @ gallery.T
    same = torch.tensor([[a == b for b in people] for a in people])
    different_picture = ~torch.eye(len(people), dtype=torch.bool)
    positive = cosines[same & different_picture].sort().values
    negative = cosines[~same].sort().values
    below = torch.searchsorted(negative, positive).double() / len(negative)
    threshold = negative[min(len(negative) - 1, math.ceil(0.999 * len(negative)))]
    candidates = torch.linspace(-1, 1, 2001)
    misses = torch.searchsorted(positive, candidates) / len(positive)
    accepts = 1 - torch.searchsorted(negative, candidates) / len(negative)
    equal = candidates[(misses - accepts).abs().argmin()]
    return Verification(
        auc=float(below.mean()),
        true_accepts=float((positive > threshold).float().mean()),
        angle=math.degrees(math.acos(float(equal))),
    )
