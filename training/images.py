"""Between pictures and network images, and sheets to look at."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[np.uint8]


def to_image(picture: Pixels) -> Tensor:
    """uint8 RGB `[H, W, 3]` to a network image `[3, H, W]` in [-1, 1]."""
    return torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 127.5 - 1


def to_picture(image: Tensor) -> Pixels:
    """A network image `[3, H, W]` in [-1, 1] to uint8 RGB `[H, W, 3]`."""
    pixels = ((image.detach().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    out: Pixels = pixels.permute(1, 2, 0).cpu().numpy()
    return out


def psnr(restored: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each image of `[B, 3, H, W]` in [-1, 1]."""
    error = (restored.clamp(-1, 1) - truth).float().pow(2).flatten(1).mean(1)
    return 10 * torch.log10(4 / error.clamp_min(1e-10))


def sheet(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """Rows of images in [-1, 1] as one picture `[3, H, W]` in 0..1."""
    lines = [torch.cat([image.detach().float().cpu() for image in row], dim=2) for row in rows]
    return (torch.cat(lines, dim=1).clamp(-1, 1) + 1) / 2
