"""Texture as what VGG16 sees of it in small windows, wherever in the window it lies."""

from collections.abc import Sequence

import torch
from torch import Tensor

#: Side in pixels of a window.
WINDOW = 32


def texture_loss(restored: Sequence[Tensor], truth: Sequence[Tensor], side: int) -> Tensor:
    """How far apart each channel's values lie when those of a window are put in order: Wasserstein's distance.

    Of VGG16's activations, a tensor `[B, C, h, w]` a layer, of pictures of `side` px, a multiple of 32: the mean over
    windows of 32 px, channels and ranks of |a - b| in units of the layer's mean on the truth; the mean of the layers.
    Strands and pores have edges, which noise of the same spectrum has not; where in a window they lie costs nothing.
    """
    parts = []
    for found, wanted in zip(restored, truth, strict=True):
        window = WINDOW * wanted.shape[-1] // side
        difference = (_ranked(found, window) - _ranked(wanted, window)).abs().mean()
        parts.append(difference / wanted.float().mean())
    return torch.stack(parts).mean()


def _ranked(activations: Tensor, window: int) -> Tensor:
    """`[B, C, windows, places]`, ascending."""
    windows = activations.float().unfold(2, window, window).unfold(3, window, window)
    return windows.flatten(4).flatten(2, 3).sort(-1).values
