"""Within-class covariance normalisation of identity embeddings (WCCN; Hatch, Kajarekar and Stolcke, 2006)."""

from collections.abc import Sequence

import torch
from torch import Tensor

#: How far the covariance is drawn towards a multiple of the unit matrix: few people have many pictures.
SHRINKAGE = 0.5


def within_class_whitening(embeddings: Tensor, people: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Weight `[d, d]` and bias `[d]` of x -> A (x - m), from `[N, d]` embeddings and whom each shows.

    m is their mean; A = W'^(-1/2), W' = (1 - s) W + s tr(W) / d I with s = `SHRINKAGE`, W the covariance of embeddings
    around the mean of their own person. Directions in which one person's pictures differ, for they are degraded, say,
    count less, and what all faces share counts nothing.

    Raises:
        ValueError: no person has two embeddings.
    """
    embeddings = embeddings.double()
    mean = embeddings.mean(0)
    names = sorted(set(people))
    if len(names) == len(people):
        raise ValueError("whitening needs a person with two embeddings")
    number = {name: index for index, name in enumerate(names)}
    owner = torch.tensor([number[name] for name in people])
    sums = torch.zeros(len(names), embeddings.shape[1], dtype=torch.float64).index_add_(0, owner, embeddings)
    own_means = sums / owner.bincount()[:, None]
    apart = embeddings - own_means[owner]
    within = apart.T @ apart / (len(people) - len(names))
    width = len(mean)
    within = (1 - SHRINKAGE) * within + SHRINKAGE * within.trace() / width * torch.eye(width, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(within)
    weight = vectors @ torch.diag(values.rsqrt()) @ vectors.T
    return weight.float(), -(weight @ mean).float()
