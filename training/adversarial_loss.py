"""The adversarial losses (Eq. 5), and a penalty on a discriminator's slope."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

#: "non-saturating" is Eq. 5 with D = sigmoid(score); "hinge" asks for scores beyond +-1 and no further.
AdversarialLoss = Literal["non-saturating", "hinge"]


def generator_loss(restored: Tensor, kind: AdversarialLoss) -> Tensor:
    """L_G of Eq. 5, -E log D(restored), from a discriminator's scores (logits, any shape)."""
    return F.softplus(-restored.float()).mean() if kind == "non-saturating" else -restored.float().mean()


def discriminator_loss(restored: Tensor, real: Tensor, kind: AdversarialLoss) -> Tensor:
    """L_D of Eq. 5, -E log(1 - D(restored)) - E log D(real), from scores (logits, any shape)."""
    restored, real = restored.float(), real.float()
    if kind == "non-saturating":
        return F.softplus(restored).mean() + F.softplus(-real).mean()
    return F.relu(1 + restored).mean() + F.relu(1 - real).mean()


def r1_penalty(scores: Tensor, real: Tensor) -> Tensor:
    """Half the squared gradient of the scores with respect to real samples `[B, ...]`, averaged over the batch (R1)."""
    (slope,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
    return slope.square().flatten(1).sum(1).mean() / 2
