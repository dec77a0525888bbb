"""A black-and-white or toned photograph stays one: colours of a restored face are put on the input's single tone."""

import torch
import torch.nn.functional as F
from torch import Tensor

#: Means of colour are taken over so many cells a side: grain and compressed colour average out.
_CELLS = 32
#: How far in grey levels colours stray from their line in a monochrome photograph (up to the first) and in one of
#: colours (from the second on); between the two a share of the colour is taken away (docs/adr/016).
_STRAY = (3.0, 4.5)
_LEVEL = 1 / 127.5


def keep_monochrome(restored: Tensor, lq: Tensor) -> Tensor:
    """`restored` `[B, 3, H, W]` with its colours on the line on which the colours of `lq` lie, where they lie on one;
    both in [-1, 1].

    The line goes through the mean colour along the first principal axis: greys, or the tones of a sepia. The deviation
    along the second axis is what strays from it. For a picture of many colours `restored` comes back to the bit.
    """
    cells = F.adaptive_avg_pool2d(lq.float(), _CELLS).flatten(2)
    mean = cells.mean(2, keepdim=True)
    spread = cells - mean
    covariance = spread @ spread.mT / spread.shape[2] + _LEVEL**2  # of a flat picture the axis is grey
    values, axes = torch.linalg.eigh(covariance.double())
    stray = values[:, 1].clamp_min(0).sqrt() / _LEVEL
    share = ((_STRAY[1] - stray) / (_STRAY[1] - _STRAY[0])).clamp(0, 1).to(restored.dtype)
    if not share.any():
        return restored
    axis, mean = axes[:, :, 2, None, None].to(restored.dtype), mean[..., None].to(restored.dtype)
    toned = mean + axis * (axis * (restored - mean)).sum(1, keepdim=True)
    return torch.lerp(restored, toned, share[:, None, None, None])
