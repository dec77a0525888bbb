"""Giving a restored picture the colours of its input: by wavelet bands or by mean and standard deviation."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

ColourFix = Literal["none", "wavelet", "adain"]


def apply(restored: Tensor, lq: Tensor, fix: ColourFix) -> Tensor:
    """`restored` `[B, 3, H, W]` with the colours of `lq`, by the named method; the value range is the caller's."""
    if fix == "none":
        return restored
    return wavelet(restored, lq) if fix == "wavelet" else adain(restored, lq)


def wavelet(restored: Tensor, lq: Tensor, levels: int = 5) -> Tensor:
    """The high frequencies of `restored` on the low ones of `lq` (a trous wavelet, kernel [1, 2, 1]^2 / 16).

    high(restored) + low(lq) is restored + low(lq - restored), for low is linear: one decomposition instead of two.
    """
    return restored + low_frequencies(lq - restored, levels)


def low_frequencies(picture: Tensor, levels: int = 5) -> Tensor:
    """What is left of `[B, C, H, W]` after `levels` blurs with a kernel dilated by 1, 2, 4, ...; edges are repeated."""
    for level in range(levels):
        step = 2**level
        picture = _blur_rows(_blur_rows(picture, step).mT, step).mT
    return picture


def adain(restored: Tensor, lq: Tensor, epsilon: float = 1e-5) -> Tensor:
    """`restored` with each channel's mean and standard deviation taken from `lq` (adaptive instance normalisation)."""
    mean, deviation = restored.mean((2, 3), keepdim=True), restored.std((2, 3), keepdim=True) + epsilon
    return (restored - mean) / deviation * (lq.std((2, 3), keepdim=True) + epsilon) + lq.mean((2, 3), keepdim=True)


def _blur_rows(picture: Tensor, step: int) -> Tensor:
    width = picture.shape[3]
    padded = F.pad(picture, (step, step, 0, 0), mode="replicate")
    return torch.add(padded[..., :width] + padded[..., 2 * step :], picture, alpha=2) / 4
