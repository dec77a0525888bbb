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
    mask = attention_map(heatmaps.float(), k)[:, None]
    mask = F.interpolate(mask, restored.shape[2:], mode="bilinear", align_corners=False)
    return distance(mask * restored + (1 - mask) * background, mask * truth + (1 - mask) * background)
