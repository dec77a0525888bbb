"""Laying restored faces back into the picture they were cut from, without a visible box."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.geometry import (
    ALIGNED_SIZE,
    Matrix,
    Pixels,
    bands,
    invert_affine,
    scale_of,
    transform_points,
    warp,
    warped_bands,
)
from models.kept_detail import kept_detail

Weights = NDArray[np.float32]

#: How far, in pixels of the aligned crop, the restored face fades into the picture at the crop's border.
FEATHER = 72.0
#: About where a face lies in the FFHQ-512 frame; between overlapping crops the one whose face is nearer wins.
_FACE_CENTRE = (256.0, 290.0)
#: Of its detail that restoring kept, in the mean of a crop: for less, which is little but chance, nothing is kept.
_HARDLY = 0.1


@dataclass(frozen=True)
class PastedFace:
    """A restored crop `[512, 512, 3]` and the matrix `[2, 3]` that maps the picture's pixels into it.

    Below a `strength` of 1 the picture keeps in proportion what it has and the crop `before` could not hold; of a face
    larger than its crop at least as much as restoring kept of the crop's own finest detail (docs/adr/024).
    """

    crop: Pixels
    matrix: Matrix
    before: Pixels
    strength: float = 1.0


def paste_back(picture: Pixels, faces: Sequence[PastedFace]) -> Pixels:
    """A copy of the picture `[H, W, 3]` with the faces in it; outside their crops it is bit for bit the original.

    Overlapping crops share their pixels smoothly, and the order of the faces hardly matters (rounding only).
    """
    result = picture.copy()
    boxes = [_bounding_box(face.matrix, picture.shape[1], picture.shape[0]) for face in faces]
    for index, (face, box) in enumerate(zip(faces, boxes, strict=True)):
        if box is None:
            continue
        left, top, right, bottom = box
        rivals = [faces[i].matrix for i, other in enumerate(boxes) if i != index and other and _overlap(box, other)]
        restored = back_to_size(face, picture[top:bottom, left:right], (left, top))
        for first, last in bands(top, bottom):
            opacity = _opacity(face.matrix, rivals, (left, first, right, last))
            before = picture[first:last, left:right].astype(np.float32)
            # The opacities of all faces add up to at most 1, so that no partial sum leaves 0..255.
            change = np.rint((restored[first - top : last - top] - before) * opacity[:, :, None]).astype(np.int16)
            there = result[first:last, left:right]
            there[:] = np.clip(there + change, 0, 255)
    return result


def back_to_size(face: PastedFace, part: Pixels, corner: tuple[int, int] = (0, 0)) -> Pixels:
    """The face at the size of a `part` of the picture `[h, w, 3]` whose upper left corner is at `corner`."""
    if part.shape == face.crop.shape and np.array_equal(face.matrix, [(1, 0, 0), (0, 1, 0)]):
        return face.crop
    height, width = part.shape[:2]
    to_part = invert_affine(face.matrix)
    to_part[:, 2] -= corner
    kept = np.full(face.crop.shape[:2], 1 - face.strength, np.float32)
    if scale_of(face.matrix) < 1 and (detail := kept_detail(face.before, face.crop)).mean() > _HARDLY:
        kept = np.maximum(kept, detail)
    if not kept.any():
        return warp(face.crop, to_part, (width, height))
    restored = np.empty_like(part)
    changed = face.crop - kept[:, :, None] * face.before
    for rows, band in warped_bands(np.dstack([changed, kept]), to_part, (width, height)):
        change, share = band[:3].permute(1, 2, 0).numpy(), band[3].numpy()[:, :, None]
        restored[rows] = np.rint(np.clip(change + share * part[rows], 0, 255))
    return restored


def _opacity(matrix: Matrix, rivals: Sequence[Matrix], box: tuple[int, int, int, int]) -> Weights:
    """Of a crop over a box of the picture, shared with the crops that overlap it."""
    opacity = soft_mask(matrix, box)
    if not rivals:
        return opacity
    share = _claim(matrix, box)
    total = share + sum(_claim(rival, box) for rival in rivals)
    shared: Weights = opacity * np.divide(share, total, out=np.zeros_like(share), where=total > 0)
    return shared


def soft_mask(matrix: Matrix, box: tuple[int, int, int, int]) -> Weights:
    """Opacity 0..1 of a crop over a box (left, top, right, bottom) of the picture: 0 from the crop's border on."""
    u, v = _positions(matrix, box)
    return _fade(u) * _fade(v)


def _claim(matrix: Matrix, box: tuple[int, int, int, int]) -> Weights:
    """The weight with which a crop claims pixels against others; it vanishes with the opacity at the crop's border."""
    u, v = _positions(matrix, box)
    distance = ((u - _FACE_CENTRE[0]) ** 2 + (v - _FACE_CENTRE[1]) ** 2) / (ALIGNED_SIZE / 2) ** 2
    claim: Weights = _fade(u) * _fade(v) * np.exp(-4 * distance)
    return claim


def _positions(matrix: Matrix, box: tuple[int, int, int, int]) -> tuple[Weights, Weights]:
    """Where the crop has the pixels of a box of the picture."""
    left, top, right, bottom = box
    (a, b, c), (d, e, f) = np.asarray(matrix, dtype=np.float32)
    x, y = np.arange(left, right, dtype=np.float32), np.arange(top, bottom, dtype=np.float32)[:, None]
    return a * x + (b * y + c), d * x + (e * y + f)


def _fade(coordinate: Weights) -> Weights:
    """Smoothstep from the crop's border inwards: neither the value nor its slope jumps."""
    inside = np.minimum(coordinate + 0.5, ALIGNED_SIZE - 0.5 - coordinate)
    t: Weights = np.clip(inside / np.float32(FEATHER), 0, 1)
    smooth: Weights = t * t * (3 - 2 * t)
    return smooth


def _bounding_box(matrix: Matrix, width: int, height: int) -> tuple[int, int, int, int] | None:
    """The picture's pixels that the crop can touch, or None if it lies outside altogether."""
    edge = ALIGNED_SIZE - 0.5
    corners = transform_points(invert_affine(matrix), [(-0.5, -0.5), (edge, -0.5), (-0.5, edge), (edge, edge)])
    left, top = (max(0, int(n)) for n in np.ceil(corners.min(0)))
    right, bottom = np.floor(corners.max(0)) + 1
    right, bottom = min(width, int(right)), min(height, int(bottom))
    return (left, top, right, bottom) if left < right and top < bottom else None


def _overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
