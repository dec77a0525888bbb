"""Takes out of a picture what repeats with the strides of the network that made it."""

import torch
import torch.nn.functional as F
from torch import Tensor

#: Cells of a side over which a pattern is averaged: an edge is in a few of them, a pattern in all.
_CELLS = 7
#: The largest difference from the surroundings that counts, in units of [-1, 1]: 16 grey levels.
_MOST = 16 / 127.5


def without_lattice(image: Tensor, period: int) -> Tensor:
    """An image `[B, C, H, W]` in [-1, 1], sides multiples of `period`, less what repeats every `period` pixels.

    Every pixel's difference from the mean around it, up to a bound, is averaged over the same places of 7 x 7 cells: in
    a photograph little is left, for detail keeps no step with a lattice.
    """
    detail = (image - _mean(image, period + 1)).clamp(-_MOST, _MOST)
    pattern = F.pixel_shuffle(_mean(F.pixel_unshuffle(detail, period), _CELLS), period)
    return image - pattern


def _mean(values: Tensor, side: int) -> Tensor:
    """Over `side` x `side`, an odd number, around each place; the edge is repeated.

    As products with two matrices, which take less time than pooling; in float32, whatever training casts to.
    """
    rows, columns = (_band(length, side, values) for length in values.shape[2:])
    with torch.autocast(values.device.type, enabled=False):
        means: Tensor = rows @ values.float() @ columns.T
    return means


def _band(length: int, side: int, like: Tensor) -> Tensor:
    """A matrix `[length, length]`: row i has the mean of the `side` places around i."""
    steps = torch.arange(-(side // 2), side // 2 + 1, device=like.device)
    places = (torch.arange(length, device=like.device)[:, None] + steps).clamp(0, length - 1)
    shares = torch.full(places.shape, 1 / side, device=like.device)
    return torch.zeros(length, length, device=like.device).scatter_add_(1, places, shares)
