"""Seams of a network's patches and strides: changes from pixel to pixel that keep step with a lattice."""

import torch
from torch import Tensor

#: Pixels of the lattice; it has those of 2, 4 and 8 in it.
_PERIOD = 16
#: The largest change from a pixel to the next that counts, in units of [-1, 1]: 16 grey levels. An edge is more.
_MOST = 16 / 127.5
#: The least mean change that others are measured in: half a grey level. Below it a picture is flat.
_LEAST = 0.5 / 127.5


def seam_loss(pictures: Tensor) -> Tensor:
    """How unevenly the changes between neighbouring pixels fall on the places of a lattice of 16 pixels.

    Of pictures `[B, 3, H, W]` in [-1, 1]: with e_k the mean of |x_(i+1) - x_i|, bounded by 16 grey levels, over all
    i = k modulo 16, the mean over k of |e_k - mean e| / mean e; the mean of rows and columns, each picture for
    itself. In a photograph changes know no lattice: 0.03 on 256 x 256 pixels of a face, by chance. Where decoded
    patches do not meet, those at their borders are larger, whichever way each seam goes; the means of signed patterns
    (`grid_loss`) do not see that.
    """
    return torch.stack([_unevenness(pictures, axis) for axis in (2, 3)]).mean()


def _unevenness(pictures: Tensor, axis: int) -> Tensor:
    changes = pictures.float().diff(dim=axis).abs().clamp(max=_MOST).movedim(axis, -1)
    cells = changes.shape[-1] // _PERIOD
    of_place = changes[..., : cells * _PERIOD].reshape(*changes.shape[:-1], cells, _PERIOD).mean((1, 2, 3))
    mean = of_place.mean(1, keepdim=True)
    return ((of_place - mean).abs() / mean.clamp_min(_LEAST)).mean()
