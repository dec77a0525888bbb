"""How far the colours of a restored face moved: a multi-scale sliced Wasserstein distance in CIELAB.

The paper measures MS-SWD; this is its stand-in with the same idea (colours as distributions, several scales, random
projections) but without its learned parts, so the figures are not comparable with published MS-SWD ones.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_SCALES = (8, 16, 32)  # averages over so many pixels: texture, which restoration must change, hardly counts
_BASES = 8


def colour_shift(restored: Tensor, lq: Tensor) -> float:
    """The distance between two pictures `[3, H, W]`, sRGB in [-1, 1], in CIELAB units; a uniform shift by d reads d."""
    pictures = torch.stack([restored, lq]).float()
    # Random orthonormal bases rather than single directions: then the length of a uniform shift is found exactly.
    random = torch.randn(_BASES, 3, 3, generator=torch.Generator().manual_seed(0))
    directions = torch.linalg.qr(random).Q.to(pictures.device).transpose(0, 1).reshape(3, -1)
    distances = []
    for scale in _SCALES:
        colours = to_cielab(F.avg_pool2d(pictures, scale)).flatten(2).transpose(1, 2)
        one, other = (colours @ directions).sort(1).values
        distances.append((3 * (one - other).square().mean()).sqrt())
    return float(torch.stack(distances).mean())


def to_cielab(pictures: Tensor) -> Tensor:
    """CIELAB (D65) of sRGB pictures `[B, 3, H, W]` in [-1, 1]."""
    encoded = ((pictures + 1) / 2).clamp(0, 1)
    linear = torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    # The rows of the sRGB to XYZ matrix, each divided by the white point's X, Y or Z.
    matrix = pictures.new_tensor(
        [
            (0.4124564 / 0.95047, 0.3575761 / 0.95047, 0.1804375 / 0.95047),
            (0.2126729, 0.7151522, 0.0721750),
            (0.0193339 / 1.08883, 0.1191920 / 1.08883, 0.9503041 / 1.08883),
        ]
    )
    relative = torch.einsum("ij,bjhw->bihw", matrix, linear)
    cubed = torch.where(
        relative > (6 / 29) ** 3, relative.clamp(min=1e-9) ** (1 / 3), relative * (29 / 6) ** 2 / 3 + 4 / 29
    )
    x, y, z = cubed.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)
