"""Masked face alignment, MFA (paper 3.3, Eq. 10-13): a perceptual distance where people look at a face."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from models.attention_map import attention_map


def attention_mask(heatmaps: Tensor, side: int) -> Tensor:
    """The attention map (Eq. 10-11, k = 10) of heatmaps `[B, C, h, w]` of the low-quality input, over a picture:
    `[B, 1, side, side]` in 0..1."""
    mask = attention_map(heatmaps.float())[:, None]
    return F.interpolate(mask, (side, side), mode="bilinear", align_corners=False)


def masked_distance(
    restored: Tensor, truth: Tensor, mask: Tensor, distance: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """The distance between both images blended with a neutral background outside the mask `[B, 1, H, W]` (Eq. 12-13).

    Images `[B, 3, H, W]` in [-1, 1]: faces, or the same part of them and of the mask. The paper takes LPIPS as the
    distance and leaves the background open: mid-grey, 0.
    """
    return distance(mask * restored, mask * truth)
