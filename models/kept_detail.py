"""How much of a face's finest detail its restoration kept: what is finer still is kept in the same proportion."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.geometry import Pixels

#: Detail is compared in means over squares of so many pixels, and over so many squares each way around each.
_SQUARE, _AROUND = 8, 2
#: Of the variance of fine detail, in squared grey levels: where there is no more, none was kept.
_NOTHING = 0.05
#: Shares that chance alone reaches.
_CHANCE = 0.1


def kept_detail(before: Pixels, after: Pixels) -> NDArray[np.float32]:
    """The share `[H, W]`, 0..1, of what is finest in a face `before` `[H, W, 3]` that the restored face `after` shows.

    Let b and a be what of their brightness a blur of 3 x 3 pixels takes away. The share is E[a b] / max(E[a a], E[b b])
    around each pixel, less what chance alone reaches: 1 where the finest detail stays, 0 where it was removed, like
    noise, where it is new, as on a blurred face, and where there is none.
    """
    b, a = _finest(before), _finest(after)
    together, one, other = _around(torch.stack([a * b, a * a, b * b]))
    share = together / (torch.maximum(one, other) + _NOTHING)
    share = ((share - _CHANCE) / (1 - _CHANCE)).clamp(0, 1)
    smooth = F.interpolate(share[None, None], before.shape[:2], mode="bilinear", align_corners=False)
    kept: NDArray[np.float32] = smooth[0, 0].numpy()
    return kept


def _finest(face: Pixels) -> Tensor:
    red, green, blue = torch.from_numpy(np.ascontiguousarray(face.transpose(2, 0, 1))).float()
    grey = ((red + green + blue) / 3)[None]
    wide = F.pad(grey, (1, 1, 1, 1), mode="replicate")[0]
    rows = wide[:-2] + 2 * wide[1:-1] + wide[2:]
    finest: Tensor = grey[0] - (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 16
    return finest


def _around(planes: Tensor) -> Tensor:
    squares = F.avg_pool2d(planes[None], _SQUARE, ceil_mode=True)
    return F.avg_pool2d(squares, 2 * _AROUND + 1, 1, _AROUND, count_include_pad=False)[0]
