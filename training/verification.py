"""How well embeddings tell people apart: AUC, accepted pairs at a fixed false-accept rate, the angle to decide by."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Verification:
    """`auc` in 0..1; `true_accepts` in 0..1 at 0.1 % false accepts; `angle` in degrees, below which lie 5 % of the
    pairs of different people."""

    auc: float
    true_accepts: float
    angle: float


def verify(probes: Tensor, gallery: Tensor, people: Sequence[str]) -> Verification:
    """All pairs of different pictures i != j of unit embeddings `[N, d]`: probe i against gallery j.

    What needs pairs of one person, or of two, is NaN where there are none.
    """
    cosines = probes @ gallery.T
    number = {name: index for index, name in enumerate(people)}
    owner = torch.tensor([number[name] for name in people])
    same = owner[:, None] == owner
    different_picture = ~torch.eye(len(people), dtype=torch.bool)
    positive = cosines[same & different_picture].sort().values
    negative = cosines[~same].sort().values
    if not len(negative):
        return Verification(math.nan, math.nan, math.nan)
    below = torch.searchsorted(negative, positive).double() / len(negative)
    strict, usual = (negative[min(len(negative) - 1, math.ceil(share * len(negative)))] for share in (0.999, 0.95))
    return Verification(
        auc=float(below.mean()),
        true_accepts=float((positive > strict).float().mean()),
        angle=math.degrees(math.acos(float(usual.clamp(-1, 1)))),
    )
