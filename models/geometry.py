"""Face templates, similarity fits, and warps between pictures and aligned crops.

A transform is a 2x3 float64 matrix M with target = M @ [x, y, 1]; integer coordinates are pixel centres.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from models.errors import GeometryError

Matrix = NDArray[np.float64]
Pixels = NDArray[np.uint8]

ALIGNED_SIZE = 512
ARCFACE_SIZE = 112
#: Rows that are worked on at once: what is made of them stays in the cache.
BAND = 128
#: Parts of a band that threads share.
_STRIPS = 4

#: Left eye, right eye, nose tip, mouth corners ("left" is the picture's left) in the FFHQ frame of 512 px.
FFHQ_512: Matrix = np.array(
    [
        (192.98138, 239.94708),
        (318.90277, 240.1936),
        (256.63416, 314.01935),
        (201.26117, 371.41043),
        (313.08905, 371.15118),
    ]
)

#: The same five points in ArcFace's 112 px frame.
ARCFACE_112: Matrix = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)


def five_points(landmarks: ArrayLike) -> Matrix:
    """Eye centres, nose tip and mouth corners `[5, 2]` of 68 landmarks `[68, 2]`."""
    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape != (68, 2):
        raise GeometryError(f"68 landmarks of 2 coordinates are needed, not {points.shape}")
    return np.stack([points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]])


def fit_similarity(source: ArrayLike, target: ArrayLike) -> Matrix:
    """Rotation, scale and shift `[2, 3]` that bring points `[N, 2]` nearest to `target` (Umeyama, no reflection)."""
    a, b = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] != 2:
        raise GeometryError(f"two equal lists of 2-D points are needed, not {a.shape} and {b.shape}")
    if len(a) < 2:
        raise GeometryError(f"at least 2 points are needed, not {len(a)}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise GeometryError("points must be finite")
    centre_a, centre_b = a.mean(0), b.mean(0)
    a, b = a - centre_a, b - centre_b
    spread = float((a**2).sum())
    if spread < 1e-12:
        raise GeometryError("all points coincide: they define no similarity")
    cosine = float((a * b).sum()) / spread
    sine = float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / spread
    linear = np.array([(cosine, -sine), (sine, cosine)])
    return np.column_stack([linear, centre_b - linear @ centre_a])


def invert_affine(matrix: ArrayLike) -> Matrix:
    """The inverse transform `[2, 3]`."""
    m = np.asarray(matrix, dtype=np.float64)
    determinant = float(np.linalg.det(m[:, :2])) if np.isfinite(m).all() else 0.0
    if abs(determinant) < 1e-12:
        raise GeometryError("the transform flattens the picture: it has no inverse")
    linear = np.linalg.inv(m[:, :2])
    return np.column_stack([linear, -linear @ m[:, 2]])


def compose(second: ArrayLike, first: ArrayLike) -> Matrix:
    """The transform `[2, 3]` that applies `first`, then `second`."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    return np.column_stack([b[:, :2] @ a[:, :2], b[:, :2] @ a[:, 2] + b[:, 2]])


def transform_points(matrix: ArrayLike, points: ArrayLike) -> Matrix:
    """Points `[N, 2]` after the transform."""
    m, p = np.asarray(matrix, dtype=np.float64), np.asarray(points, dtype=np.float64)
    return p @ m[:, :2].T + m[:, 2]


def scale_of(matrix: ArrayLike) -> float:
    """How much the transform enlarges lengths (square root of the area ratio)."""
    return math.sqrt(abs(float(np.linalg.det(np.asarray(matrix, dtype=np.float64)[:, :2]))))


def enlargement(factor: float) -> Matrix:
    """From a picture's pixels to those of the same picture `factor` times as large, by their centres."""
    shift = (factor - 1) / 2
    return np.array([(factor, 0, shift), (0, factor, shift)])


def shrink(picture: Pixels, size: tuple[int, int]) -> Pixels:
    """A picture `[H, W]` or `[H, W, C]` in a smaller `size` (width, height), filtered against aliasing.

    Torch's path for bytes with the colours last takes a sixth of the time of Pillow, which copies the picture first.
    """
    pixels = np.require(picture if picture.ndim == 3 else picture[:, :, None], requirements=["C", "W"])
    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    smaller: Pixels = F.interpolate(planes, size[::-1], mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()
    return smaller if picture.ndim == 3 else smaller[:, :, 0]


def warp(picture: Pixels, matrix: ArrayLike, size: tuple[int, int], fill: int | None = None) -> Pixels:
    """Resample a picture `[H, W]` or `[H, W, C]` into `size` (width, height); `matrix` maps its pixels to the target's.

    Shrinking is filtered against aliasing first. Where the target lies outside the picture its edge is repeated, or
    `fill` (0..255) is put if given.
    """
    colours = picture if picture.ndim == 3 else picture[:, :, None]
    out = np.empty((size[1], size[0], colours.shape[2]), np.uint8)
    for rows, band in warped_bands(colours, matrix, size, fill):
        out[rows] = band.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    return out if picture.ndim == 3 else out[:, :, 0]


def warped_bands(
    picture: NDArray[Any], matrix: ArrayLike, size: tuple[int, int], fill: int | None = None
) -> Iterator[tuple[slice, Tensor]]:
    """As `warp`, of `[H, W, C]` and band by band: what is in between takes six times the memory of the result.

    Yields the rows of each band and their values `[C, rows, W]`, float32, which bicubic may carry past the picture's.
    """
    backward = invert_affine(matrix)
    left, top, right, bottom = _source_box(backward, size, picture.shape[1], picture.shape[0])
    part = picture[top:bottom, left:right]
    backward[:, 2] -= (left, top)
    if (factor := scale_of(backward) / 1.5) > 1:  # by 1.5 bicubic alone does not alias visibly, and keeps more
        width, height = (max(1, round(n / factor)) for n in (part.shape[1], part.shape[0]))
        ratio = np.array([width / part.shape[1], height / part.shape[0]])
        part = shrink(part, (width, height))
        backward[:, :2] *= ratio[:, None]
        backward[:, 2] = (backward[:, 2] + 0.5) * ratio - 0.5
    edges = ((2, 2), (2, 2), (0, 0))
    part = np.pad(part, edges, mode="edge") if fill is None else np.pad(part, edges, constant_values=fill)
    backward[:, 2] += 2
    planes = torch.from_numpy(np.ascontiguousarray(part)).permute(2, 0, 1)[None].float()
    for first, last in bands(0, size[1]):
        yield slice(first, last), _remap(planes, backward, size[0], first)[:, : last - first]


def _remap(planes: Tensor, backward: Matrix, width: int, first: int) -> Tensor:
    """The band `[C, BAND, W]` from row `first` on of `planes` `[1, C, H, W]` warped, bicubic.

    Its strips are a batch, for torch shares only the pictures of a batch among threads.
    """
    (a, b, c), (d, e, f) = compose(_to_unit(planes.shape[3], planes.shape[2]), backward).tolist()
    x, y = torch.arange(width).float(), torch.arange(first, first + BAND).float()[:, None]
    grid = torch.stack([a * x + (b * y + c), d * x + (e * y + f)], -1).view(_STRIPS, -1, width, 2)
    batch = planes.expand(_STRIPS, -1, -1, -1)
    sampled = F.grid_sample(batch, grid, mode="bicubic", padding_mode="border", align_corners=False)
    return sampled.transpose(0, 1).flatten(1, 2)


def bands(top: int, bottom: int) -> Iterator[tuple[int, int]]:
    """The rows from `top` to `bottom` in bands of at most `BAND`."""
    for row in range(top, bottom, BAND):
        yield row, min(row + BAND, bottom)


def arcface_crop(aligned: Tensor) -> Tensor:
    """The ArcFace-112 crops `[B, 3, 112, 112]` of FFHQ-512-aligned faces `[B, 3, 512, 512]`; differentiable."""
    smaller = F.avg_pool2d(aligned, 2)  # the crop is 3.4 times smaller: bilinear sampling alone would alias
    theta = _ARCFACE_THETA.to(aligned.device, aligned.dtype).expand(len(aligned), -1, -1)
    grid = F.affine_grid(theta, [len(aligned), 3, ARCFACE_SIZE, ARCFACE_SIZE], align_corners=False)
    return F.grid_sample(smaller, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _to_unit(width: int, height: int) -> Matrix:
    """From pixels of a picture to the coordinates of torch's grids, [-1, 1] from edge to edge."""
    return np.array([(2 / width, 0, 1 / width - 1), (0, 2 / height, 1 / height - 1)])


def _source_box(backward: Matrix, size: tuple[int, int], width: int, height: int) -> tuple[int, int, int, int]:
    """The part of the source that the target touches, with a margin for filters; at least one pixel."""
    corners = transform_points(backward, [(-1, -1), (size[0], -1), (-1, size[1]), size])
    margin = 4 + 2 * scale_of(backward)
    low, high = np.floor(corners.min(0) - margin), np.ceil(corners.max(0) + margin)
    left, top = int(np.clip(low[0], 0, width - 1)), int(np.clip(low[1], 0, height - 1))
    return left, top, int(np.clip(high[0], left + 1, width)), int(np.clip(high[1], top + 1, height))


ARCFACE_FROM_FFHQ: Matrix = fit_similarity(FFHQ_512, ARCFACE_112)
_ARCFACE_THETA = torch.from_numpy(
    compose(
        compose(_to_unit(ALIGNED_SIZE // 2, ALIGNED_SIZE // 2), enlargement(0.5)),
        compose(invert_affine(ARCFACE_FROM_FFHQ), invert_affine(_to_unit(ARCFACE_SIZE, ARCFACE_SIZE))),
    )
)[None].float()
