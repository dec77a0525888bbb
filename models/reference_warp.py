"""Smooth warp of an aligned reference onto the pose and expression of another face, from landmarks alone."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class ReferenceWarpConfig:
    """All lengths in pixels of a 512 px picture; the warp is ours, the paper has none.

    `scales`: widths of the Gaussian kernels, coarse to fine; each fits what those before it left over.
    `background`: weight of standing still against the kernels' weights; sets how far from the face the field fades out.
    `reach`: the longest displacement; longer ones are shortened to it. `cells`: the field is computed on cells x cells.
    """

    scales: tuple[float, ...] = (48.0, 20.0)
    background: float = 0.1
    reach: float = 64.0
    cells: int = 64


def displacement_field(source: Tensor, target: Tensor, config: ReferenceWarpConfig, size: int) -> Tensor:
    """Displacements `[B, 2, cells, cells]`, x and y in pixels, from landmarks `target` to `source`.

    Both are `[B, 68, 2]` in pixels of a `size` px square. Gaussian-weighted regression (Nadaraya-Watson) with a weight
    of standing still: smooth, and fading to zero far from the face. A pair that is not finite is left out.
    """
    scale = size / 512
    source, target = source.float(), target.float()
    finite = (source.isfinite() & target.isfinite()).all(-1, keepdim=True)
    source, target = torch.where(finite, source, 0.0), torch.where(finite, target, 0.0)
    # What is still to be explained at each landmark, and a one that sums to the kernels' weight.
    left = torch.cat([_shortened(source - target, config.reach * scale), torch.ones_like(source[..., :1])], -1) * finite

    steps = torch.arange(config.cells, device=source.device, dtype=torch.float32)
    centres = (steps + 0.5) * (size / config.cells) - 0.5
    field = source.new_zeros(len(source), 2, config.cells, config.cells)
    for scale_width in config.scales:
        width = scale_width * scale
        # A Gaussian is a product of one in x and one in y, so the sum over landmarks is a product of two matrices.
        x, y = _kernel(centres - target[..., :1], width), _kernel(centres - target[..., 1:], width)
        sums = torch.stack([(y * values[..., None]).transpose(1, 2).bmm(x) for values in left.unbind(-1)], 1)
        field = field + sums[:, :2] / (sums[:, 2:] + config.background)
        between = _kernel(target[:, :, None] - target[:, None], width).prod(-1)
        sums = between.bmm(left)
        explained = sums[..., :2] / (sums[..., 2:] + config.background)
        left = torch.cat([left[..., :2] - explained * finite, left[..., 2:]], -1)
    return _shortened(field, config.reach * scale, dim=1)


def warp_reference(images: Tensor, source: Tensor, target: Tensor, config: ReferenceWarpConfig | None = None) -> Tensor:
    """Bends square images `[B, 3, S, S]` so that landmarks `source` come to lie on `target`, both `[B, 68, 2]` px.

    Differentiable. Where source and target agree the picture is unchanged (S a power of two: to the bit).
    """
    size = int(images.shape[-1])  # a number also while traced
    if images.shape[-2] != size:
        raise ValueError(f"aligned references are square, got {tuple(images.shape[-2:])}")
    field = displacement_field(source, target, config or ReferenceWarpConfig(), size)
    field = F.interpolate(field, size=(size, size), mode="bilinear", align_corners=False)
    # Pixel centres in grid_sample's units are whole numbers over S, exact in binary for a power of two. With
    # align_corners they would be rounded, and a picture that stays where it is would change.
    pixels = torch.arange(size, device=images.device, dtype=torch.float32)
    grid = torch.stack(torch.meshgrid(pixels, pixels, indexing="xy"), -1) + field.permute(0, 2, 3, 1)
    grid = (2 * grid + 1 - size) / size
    warped = F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    return warped.to(images.dtype)


def _kernel(offsets: Tensor, width: float) -> Tensor:
    return (offsets.square() / (-2 * width**2)).exp()


def _shortened(vectors: Tensor, longest: float, dim: int = -1) -> Tensor:
    """The vectors along `dim`, the longer ones cut to `longest`."""
    # The tiny offset gives the length of a zero vector a gradient.
    length = (vectors.square().sum(dim, keepdim=True) + 1e-12).sqrt()
    return vectors * (longest / length).clamp(max=1)
