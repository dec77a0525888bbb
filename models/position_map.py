"""Maps that tell the UNet where in the aligned frame it looks."""

import torch
from torch import Tensor, nn


class PositionMap(nn.Module):
    """Learned channels `[P, size, size]` that say where in the aligned frame a place is; P is a multiple of 4.

    They begin as sines and cosines of row and column, half a wave long and shorter by octaves.
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        octaves = torch.pi * 2.0 ** torch.arange(channels // 4).view(-1, 1) * torch.linspace(0, 1, size)
        waves = torch.stack([octaves.sin(), octaves.cos()], 1).flatten(0, 1)
        rows, columns = waves.view(-1, size, 1), waves.view(-1, 1, size)
        self.weight = nn.Parameter(torch.cat([rows.expand(-1, size, size), columns.expand(-1, size, size)]))

    def forward(self, latent: Tensor, corner: tuple[int, int] = (0, 0)) -> Tensor:
        """The latent `[B, C, h, w]` with the map's channels behind its own; `corner` (row, column) is where it lies."""
        (top, left), (height, width) = corner, latent.shape[2:]
        part = self.weight[:, top : top + height, left : left + width].to(latent.dtype)
        return torch.cat([latent, part.expand(len(latent), -1, -1, -1)], dim=1)
