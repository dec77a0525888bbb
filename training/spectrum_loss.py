"""Texture without its phase: the power of fine detail in small windows, frequency by frequency."""

import torch
import torch.nn.functional as F
from torch import Tensor

#: Sides in pixels of a window and of the step from one to the next.
_WINDOW, _STEP = 32, 16
#: Windows of a side over which power is averaged: one window's own is mostly chance.
_NEIGHBOURS = 3
#: Side in pixels of a picture of so many windows.
SMALLEST_SIDE = _WINDOW + (_NEIGHBOURS - 1) * _STEP
#: Cycles a window from which on detail is texture: what is coarser must be where it belongs.
_COARSEST = 3
#: Deviation of the white noise that is added to both, in units of [-1, 1]: a grey level. Less is not seen.
_LEAST = 1 / 127.5


def spectrum_loss(restored: Tensor, truth: Tensor) -> Tensor:
    """The mean |log P(restored) / P(truth)| over windows and frequencies of pictures `[B, 3, H, W]` in [-1, 1].

    P is the power of the grey picture in Hann windows of 32 px, averaged over 3 x 3 neighbours, from 3 cycles a window
    on. A pattern that repeats has a few frequencies where a photograph's texture has all of them; where pores lie costs
    nothing. Sides are `SMALLEST_SIDE` at least.
    """
    return (_log_power(restored) - _log_power(truth)).abs().mean()


def _log_power(pictures: Tensor) -> Tensor:
    """`[B, F, h, w]` in nats."""
    with torch.autocast(pictures.device.type, enabled=False):
        grey = pictures.float().mean(1)
        hann = torch.hann_window(_WINDOW, periodic=True, device=grey.device)
        taper = hann[:, None] * hann
        windows = grey.unfold(1, _WINDOW, _STEP).unfold(2, _WINDOW, _STEP)
        windows = (windows - windows.mean((3, 4), keepdim=True)) * taper
        power = torch.fft.rfft2(windows).abs().square()
        rows = torch.fft.fftfreq(_WINDOW, 1 / _WINDOW, device=grey.device)[:, None]
        columns = torch.fft.rfftfreq(_WINDOW, 1 / _WINDOW, device=grey.device)
        fine = (rows.square() + columns.square()) >= _COARSEST**2
        power = F.avg_pool2d(power[..., fine].permute(0, 3, 1, 2), _NEIGHBOURS, 1)
        return (power + _LEAST**2 * taper.square().sum()).log()
