"""Where a face is in the aligned frame: what a reference shows around it, hair, clothes, a flag, is of another day."""

import torch
from torch import Tensor

# An ellipse in the FFHQ-512 frame: centre, half axes, and the share of these at which it begins and ends to fade.
_CENTRE, _HALF_AXES, _FADE = (256.0, 285.0), (140.0, 200.0), (0.85, 1.1)


def face_window(size: int, device: torch.device | None = None) -> Tensor:
    """`[size, size]`, for any size of the aligned frame: 1 on the face, 0 around it, smooth in between."""
    centres = (torch.arange(size, device=device) + 0.5) * (512 / size) - 0.5
    x, y = ((centres - middle) / half for middle, half in zip(_CENTRE, _HALF_AXES, strict=True))
    radius = (x.square() + y[:, None].square()).sqrt()
    t = ((_FADE[1] - radius) / (_FADE[1] - _FADE[0])).clamp(0, 1)
    return t * t * (3 - 2 * t)


def within_face(latent: Tensor, reference: Tensor) -> Tensor:
    """The latents `reference` `[B, C, h, h]` on the face, and `latent` around it, where a reference says nothing."""
    return latent + face_window(latent.shape[-1], latent.device) * (reference - latent)
