"""Where the eye looks first in a face: the attention map of masked face alignment."""

import torch
from torch import Tensor

#: How sharply the map tells landmarks from the rest (Eq. 11), the paper's value.
K = 10.0
#: Unstated in the paper; it only matters for a map without any contrast, which becomes zero.
_EPSILON = 1e-6


def attention_map(heatmaps: Tensor) -> Tensor:
    """The map M `[B, h, w]` in 0..1 from landmark heatmaps `[B, C, h, w]` (Eq. 10-11)."""
    raw = heatmaps.mean(1)
    sharpened = 1 - torch.exp(-K * raw)
    lowest, highest = sharpened.amin((1, 2), keepdim=True), sharpened.amax((1, 2), keepdim=True)
    return (sharpened - lowest) / (highest - lowest + _EPSILON)
