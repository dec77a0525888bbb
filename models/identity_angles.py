"""Identity angles: degrees between embeddings of faces."""

import torch
import torch.nn.functional as F
from torch import Tensor


def identity_angle(one: Tensor, other: Tensor) -> float:
    """Degrees between two embeddings `[d]`; the arccosine of their cosine."""
    return identity_angles(one[None], other[None])[0][0]


def identity_angles(some: Tensor, others: Tensor) -> list[list[float]]:
    """Degrees between each of embeddings `[N, d]` and each of `[M, d]`."""
    cosines = F.normalize(some.double(), dim=1) @ F.normalize(others.double(), dim=1).T
    angles: list[list[float]] = torch.rad2deg(cosines.clamp(-1, 1).acos()).tolist()
    return angles
