"""Between pictures and network images, and sheets to look at."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.aligned_face import to_network, to_pixels
from models.geometry import Pixels


def to_image(picture: Pixels) -> Tensor:
    """uint8 RGB `[H, W, 3]` to a network image `[3, H, W]` in [-1, 1]."""
    return to_network([picture])[0]


def to_picture(image: Tensor) -> Pixels:
    """A network image `[3, H, W]` in [-1, 1] to uint8 RGB `[H, W, 3]`."""
    return to_pixels(image.detach()[None])[0]


def psnr(restored: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each image of `[B, 3, H, W]` in [-1, 1]."""
    error = (restored.clamp(-1, 1) - truth).float().pow(2).flatten(1).mean(1)
    return 10 * torch.log10(4 / error.clamp_min(1e-10))


def sheet(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """Rows of images in [-1, 1] as one picture `[3, H, W]` in 0..1."""
    lines = [torch.cat([image.detach().float().cpu() for image in row], dim=2) for row in rows]
    return (torch.cat(lines, dim=1).clamp(-1, 1) + 1) / 2


def save_sheet(rows: Sequence[Sequence[Pixels]], path: Path, side: int = 256) -> None:
    """Writes rows of pictures, equally many in each and each brought to `side` px, as one picture."""
    tiles = [
        np.concatenate([np.asarray(Image.fromarray(p).resize((side, side), Image.Resampling.BOX)) for p in row], axis=1)
        for row in rows
    ]
    Image.fromarray(np.concatenate(tiles)).save(path)
