"""What repeats from patch to patch of a latent: means of signed errors over a lattice."""

import torch
import torch.nn.functional as F
from torch import Tensor

#: Strides of the lattices, in positions of the latent: a patch and the strides of the UNet's levels.
_STRIDES = (1, 2, 4, 8)
#: Rows and columns of a lattice's places that are averaged.
_PLACES = 8


def grid_loss(restored: Tensor, target: Tensor) -> Tensor:
    """L1 of latents `[B, C, h, w]` averaged over 8 times 8 places of a lattice, each channel in its own deviations; the
    mean over lattices of 1, 2, 4 and 8 positions.

    In a photograph the fine channels of a patch transform average out; what stays is a pattern that repeats from patch
    to patch, or with a stride of the UNet's, which VGG16's shallow features prefer to smooth skin.
    """
    deviations = target.float().std((0, 2, 3), keepdim=True).clamp_min(0.01)
    error = (restored - target).float() / deviations
    means = []
    for stride in _STRIDES:
        places = F.pixel_unshuffle(error, stride)
        means.append(F.avg_pool2d(places, min(_PLACES, *places.shape[2:])).abs().mean())
    return torch.stack(means).mean()
