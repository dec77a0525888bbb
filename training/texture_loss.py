"""Texture as what VGG16 sees of it in small windows, wherever in the window it lies."""

from collections.abc import Sequence

import numpy as np
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
        found, wanted = _windows(found, window), _windows(wanted, window)
        difference = (found - _of_the_same_rank(found.detach(), wanted)).abs().mean()
        parts.append(difference / wanted.mean())
    return torch.stack(parts).mean()


def _windows(activations: Tensor, window: int) -> Tensor:
    """`[B, C, windows, places]`."""
    windows = activations.float().unfold(2, window, window).unfold(3, window, window)
    return windows.flatten(4).flatten(2, 3)


@torch.no_grad()
def _of_the_same_rank(values: Tensor, others: Tensor) -> Tensor:
    """For each of `values` the one of `others` that has its rank."""
    if values.device.type == "cpu":  # numpy's sort has the CPU's vector units: a quarter of torch's time
        order, ranked = torch.from_numpy(np.argsort(values.numpy())), torch.from_numpy(np.sort(others.numpy()))
    else:
        order, ranked = values.argsort(-1), others.sort(-1).values
    return torch.empty_like(others).scatter_(-1, order, ranked)
