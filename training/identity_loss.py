"""Identity preservation loss (Eq. 8)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from models.face_analyzer import IdentityEncoder


def identity_loss(restored: Tensor, truth: Tensor, encoders: Sequence[IdentityEncoder]) -> Tensor:
    """Sum over recognisers f_i of 1 - cos(f_i(x_H), f_i(restored)), averaged over the batch (Eq. 8).

    Both are FFHQ-512-aligned `[B, 3, 512, 512]` in [-1, 1]; gradients go to `restored` alone.
    """
    total = restored.new_zeros(())
    for encoder in encoders:
        with torch.no_grad():
            target = encoder.embed(truth)
        total = total + (1 - F.cosine_similarity(encoder.embed(restored), target, dim=1)).mean()
    return total
