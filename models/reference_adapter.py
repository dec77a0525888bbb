"""Spatial reference path of the tiny profile: the optimal reference's latent and the input's steer the UNet.

The paper's eleven tokens tell a large prior who it is; a small network knows few faces, so here it also sees one
(docs/adr/003). Outputs start at zero and are gated by how well the identities agree.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class ReferenceAdapterConfig:
    """`widths` are the UNet's channels level by level."""

    latent_channels: int = 24
    widths: tuple[int, ...] = (32, 64, 128, 192)


class ReferenceAdapter(nn.Module):
    """From both latents `[B, C, h, w]` to what is added to the UNet's skip connections and middle block."""

    def __init__(self, config: ReferenceAdapterConfig) -> None:
        super().__init__()
        widths = config.widths
        steps = list(pairwise(widths))
        self.enter = nn.Conv2d(3 * config.latent_channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(nn.Conv2d(w, w, 3, padding=1) for w in widths)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in steps)
        self.leave = nn.ModuleList(nn.Conv2d(w, w, 1) for w in widths)
        for layer in self.leave:
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        # The gate opens around the cosine that separates people; both numbers are learned.
        self.gate = nn.Parameter(torch.tensor([8.0, 0.25]))

    def forward(
        self, latent: Tensor, reference: Tensor, agreement: Tensor, present: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """Residuals of each level's skip, finest first, and of the middle; exactly zero where `present` `[B]` is False.

        `agreement` `[B]` is the cosine between the identities of input and reference.
        """
        dtype = self.enter.weight.dtype  # may be lower than the latents' (`models.precision`); the gate's is not
        latent, reference = latent.to(dtype), reference.to(dtype)
        open_ = (torch.sigmoid(self.gate[0] * (agreement - self.gate[1])) * present).view(-1, 1, 1, 1).to(dtype)
        # Trained on both latents and what lies between them: that is a sum of the two, so its weights join theirs.
        own, seen, between = self.enter.weight.chunk(3, dim=1)
        weight = torch.cat([own - between, seen + between], dim=1)
        x = F.silu(F.conv2d(torch.cat([latent, reference], dim=1), weight, self.enter.bias, padding=1))
        features = []
        for level, block in enumerate(self.blocks):
            if level:
                x = F.silu(self.down[level - 1](x))
            x = x + F.silu(block(x))
            features.append(x)
        residuals = [
            torch.where(present.view(-1, 1, 1, 1), open_ * layer(feature), 0.0)
            for layer, feature in zip(self.leave, features, strict=True)
        ]
        return residuals[:-1], residuals[-1]
