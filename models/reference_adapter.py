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
    """`widths` are the UNet's channels level by level; the UNet has one residual block a level."""

    latent_channels: int = 24
    widths: tuple[int, ...] = (32, 64, 128, 160)


class ReferenceAdapter(nn.Module):
    """From both latents `[B, C, h, w]` to what is added to the UNet's skip connections and middle block."""

    def __init__(self, config: ReferenceAdapterConfig) -> None:
        super().__init__()
        widths = config.widths
        steps = list(pairwise(widths))
        self.enter = nn.Conv2d(3 * config.latent_channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(nn.Conv2d(w, w, 3, padding=1) for w in widths)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in steps)
        # after conv_in and the block of level 1, after its downsampler and the block of level 2, ..., middle
        leave = [(widths[0], widths[0])] * 2 + [pair for a, b in steps for pair in ((b, a), (b, b))]
        self.leave = nn.ModuleList(nn.Conv2d(i, o, 1) for i, o in [*leave, (widths[-1], widths[-1])])
        for layer in self.leave:
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        # The gate opens around the cosine that separates people; both numbers are learned.
        self.gate = nn.Parameter(torch.tensor([8.0, 0.25]))

    def forward(
        self, latent: Tensor, reference: Tensor, agreement: Tensor, present: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """Residuals of the skips, two a level, and of the middle block; exactly zero where `present` `[B]` is False.

        `agreement` `[B]` is the cosine between the identities of input and reference.
        """
        dtype = self.enter.weight.dtype  # may be lower than the latents' (`models.precision`); the gate's is not
        latent, reference = latent.to(dtype), reference.to(dtype)
        open_ = (torch.sigmoid(self.gate[0] * (agreement - self.gate[1])) * present).view(-1, 1, 1, 1).to(dtype)
        x = F.silu(self.enter(torch.cat([latent, reference, reference - latent], dim=1)))
        features = [x]
        for level, block in enumerate(self.blocks):
            if level:
                x = F.silu(self.down[level - 1](x))
                features.append(x)
            x = x + F.silu(block(x))
            features.append(x)
        residuals = [
            torch.where(present.view(-1, 1, 1, 1), open_ * layer(feature), 0.0)
            for layer, feature in zip(self.leave, [*features, x], strict=True)
        ]
        return residuals[:-1], residuals[-1]
