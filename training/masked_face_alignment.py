"""Masked face alignment, MFA (paper 3.3, Eq. 10-13): a perceptual distance where people look at a face."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from models.attention_map import attention_map


def masked_face_alignment(
    restored: Tensor,
    truth: Tensor,
    heatmaps: Tensor,
    distance: Callable[[Tensor, Tensor], Tensor],
    k: float = 10.0,
    background: float = 0.0,
) -> Tensor:
    """The distance between both images blended with a neutral background outside the attention map (Eq. 12-13).

    Images `[B, 3, H, W]` in [-1, 1]; `heatmaps` `[B, C, h, w]` of the low-quality input (Eq. 10). The paper takes LPIPS
    as the distance and leaves the background open: mid-grey, 0.
    """
    mask = attention_mask(heatmaps, restored.shape[-1], k)
    return masked_distance(restored, truth, mask, distance, background)


def attention_mask(heatmaps: Tensor, side: int, k: float = 10.0) -> Tensor:
    """The attention map (Eq. 10-11) of heatmaps `[B, C, h, w]` over a picture: `[B, 1, side, side]` in 0..1."""
    mask = attention_map(heatmaps.float(), k)[:, None]
    return F.interpolate(mask, (side, side), mode="bilinear", align_corners=False)


def masked_distance(
    restored: Tensor,
    truth: Tensor,
    mask: Tensor,
    distance: Callable[[Tensor, Tensor], Tensor],
    background: float = 0.0,
) -> Tensor:
    """Eq. 12-13 with the mask `[B, 1, H, W]` given; for parts of a face."""
    return distance(mask * restored + (1 - mask) * background, mask * truth + (1 - mask) * background)
