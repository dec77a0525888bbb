"""From a picture to aligned faces: detection on a small copy, landmarks in passes, one similarity per face."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from models.attention_map import attention_map
from models.errors import GeometryError, NoFaceError
from models.face_analyzer import Detection, FaceAnalyzer
from models.geometry import (
    ALIGNED_SIZE,
    FFHQ_512,
    Matrix,
    Pixels,
    compose,
    enlargement,
    fit_similarity,
    five_points,
    invert_affine,
    shrink,
    transform_points,
    warp,
)

#: Long side in px of the copy that faces are looked for in.
DETECTION_SIDE = 640
#: Smaller faces (short side of the box, px of the picture) are left alone: nothing in them says who it is.
SMALLEST_FACE = 12
# Where a detector's box lies in the FFHQ-512 frame: centre and side (geometric mean). Measured on 538 photographs the
# boxes of the embedded detector's labels have centre (259, 336) and side 278; those of SCRFD reach a little higher.
_BOX_CENTRE, _BOX_SIDE = (257.0, 325.0), 278.0
_AT_ONCE = 16
#: The most `_doubt` with which a detection counts as a face: measured for the embedded landmark network (docs/adr/030).
MOST_DOUBT = 0.0070
#: Above it a face is tried in quarter turns as well, which must leave less.
_LITTLE_DOUBT = 0.0050
#: What a landmark counts that one more fit would move by a pixel of the 512 px crop.
_DOUBT_PER_PIXEL = 1e-4
#: How many detections are looked at more closely for the largest face.
_TRIES = 4
_NO_FACE_AFTER_ALL = "no face was found: what seemed to be one is none on a closer look"

Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class AlignedFace:
    """A face cut from a picture.

    `crop` `[512, 512, 3]`, FFHQ-aligned; `matrix` `[2, 3]` maps the picture's pixels into it; `landmarks` `[68, 2]` in
    its pixels; `attention` `[h, w]` in 0..1 (Eq. 11); `identity` `[d]`, unit; `box` x0, y0, x1, y1 in the picture.
    """

    crop: Pixels
    matrix: Matrix
    landmarks: Tensor
    attention: Tensor
    identity: Tensor
    box: tuple[float, float, float, float]


def to_network(crops: Sequence[Pixels]) -> Tensor:
    """RGB float `[B, 3, S, S]` in [-1, 1] of crops `[S, S, 3]`."""
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def to_pixels(images: Tensor) -> list[Pixels]:
    """Crops `[S, S, 3]` of RGB images `[B, 3, S, S]` in [-1, 1]."""
    levels = images.float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
    return list(levels.permute(0, 2, 3, 1).cpu().numpy())


def find_faces(analyzer: FaceAnalyzer, picture: Pixels) -> list[Detection]:
    """All faces of a picture `[H, W, 3]` that are large enough to restore, the largest first; boxes in its pixels.

    Raises:
        NoFaceError: there is none.
    """
    height, width = picture.shape[:2]
    factor = max(1.0, max(height, width) / DETECTION_SIDE)
    small = picture
    if factor > 1:
        size = max(1, round(width / factor)), max(1, round(height / factor))
        small = shrink(picture, size)
    found = [
        Detection((x0 * factor, y0 * factor, x1 * factor, y1 * factor), detection.score)
        for detection in analyzer.detector.detect(small)
        for x0, y0, x1, y1 in [detection.box]
    ]
    if not found:
        raise NoFaceError("no face was found")
    found.sort(key=lambda detection: -_side(detection))
    large = [face for face in found if min(face.box[2] - face.box[0], face.box[3] - face.box[1]) >= SMALLEST_FACE]
    if not large:
        raise NoFaceError(
            f"the largest face has {_side(found[0]):.0f} pixels, at least {SMALLEST_FACE} are needed to restore it"
        )
    return large


@torch.inference_mode()
def align(analyzer: FaceAnalyzer, picture: Pixels, detections: Sequence[Detection]) -> list[AlignedFace]:
    """The detected faces, aligned: landmarks on a small crop around the box give a first similarity, those on the small
    crop that this makes the final one, and those on the 512 px crop are the landmarks that count. Where these are
    doubtful, the face may lie on its side or stand on its head, and is one if a quarter turn leaves little doubt: the
    turn that leaves least is taken. Where they are too doubtful (`MOST_DOUBT`) the detector took an object for a face,
    and it is left out.

    Raises:
        NoFaceError: none is left.
    """
    found = _found(analyzer, picture, detections, 0)
    unsure = [index for index, (doubt, _) in enumerate(found) if doubt > _LITTLE_DOUBT]
    for turns in (1, 2, 3):
        turned = _found(analyzer, picture, [detections[index] for index in unsure], turns)
        for index, other in zip(unsure, turned, strict=True):
            if other[0] <= min(_LITTLE_DOUBT, found[index][0]):
                found[index] = other
    faces = [face for doubt, face in found if doubt <= MOST_DOUBT]
    if not faces:
        raise NoFaceError(_NO_FACE_AFTER_ALL)
    return faces


def align_largest(analyzer: FaceAnalyzer, picture: Pixels, detections: Sequence[Detection]) -> AlignedFace:
    """The largest of detected faces (`find_faces`), aligned; past objects that were taken for faces.

    Raises:
        NoFaceError: none of the largest four is a face.
    """
    for detection in detections[:_TRIES]:
        with suppress(NoFaceError):
            return align(analyzer, picture, [detection])[0]
    raise NoFaceError(_NO_FACE_AFTER_ALL)


@torch.inference_mode()
def whole_picture(analyzer: FaceAnalyzer, picture: Pixels) -> AlignedFace:
    """The picture as one face that is aligned already; it is brought to 512 px if it has another size.

    Raises:
        NoFaceError: it is not square, or too small for a face.
    """
    height, width = picture.shape[:2]
    if height != width:
        raise NoFaceError(f"an aligned face is square, the picture has {width}x{height} pixels")
    if height < SMALLEST_FACE:
        raise NoFaceError(f"no face: the picture has only {width}x{height} pixels")
    return _aligned(analyzer, picture, [enlargement(ALIGNED_SIZE / width)], [(0, 0, width, height)])[0][1]


def crop_scale(detection: Detection) -> float:
    """About how much a detected face is enlarged (above 1) or shrunk in its crop."""
    return _BOX_SIDE / max(_side(detection), 1.0)


def _found(
    analyzer: FaceAnalyzer, picture: Pixels, detections: Sequence[Detection], turns: int
) -> list[tuple[float, AlignedFace]]:
    """Detected faces, taken to be turned by so many quarter turns, aligned; each with its doubt."""
    matrices = [_matrix_of_box(detection.box, turns) for detection in detections]
    for _ in range(2):
        matrices = [fitted for batch in _batches(matrices) for fitted in _fit(analyzer, picture, batch)]
    return _aligned(analyzer, picture, matrices, [detection.box for detection in detections])


def _fit(analyzer: FaceAnalyzer, picture: Pixels, matrices: Sequence[Matrix]) -> list[Matrix]:
    """The similarities that the landmarks ask for in crops that these matrices make, at half size to save time."""
    half = ALIGNED_SIZE // 2
    small = [compose(enlargement(0.5), matrix) for matrix in matrices]
    crops = to_network([warp(picture, matrix, (half, half)) for matrix in small])
    found = analyzer.landmark_detector.landmarks(crops).points.cpu().numpy()
    in_picture = [transform_points(invert_affine(matrix), points) for matrix, points in zip(small, found, strict=True)]
    return [_fitted(points, matrix) for points, matrix in zip(in_picture, matrices, strict=True)]


def _fitted(points: Matrix, otherwise: Matrix) -> Matrix:
    """What brings landmarks `[68, 2]` to where FFHQ has them; `otherwise` where all lie in one place."""
    try:
        return fit_similarity(five_points(points), FFHQ_512)
    except GeometryError:
        return otherwise


def _aligned(
    analyzer: FaceAnalyzer,
    picture: Pixels,
    matrices: Sequence[Matrix],
    boxes: Sequence[tuple[float, float, float, float]],
) -> list[tuple[float, AlignedFace]]:
    faces = []
    for batch in _batches(list(zip(matrices, boxes, strict=True))):
        crops = [_crop(picture, matrix) for matrix, _ in batch]
        images = to_network(crops)
        found = analyzer.landmark_detector.landmarks(images)
        points, attention = found.points.cpu(), attention_map(found.heatmaps).cpu()
        identities = analyzer.identity_encoder.embed(images).cpu()
        for i, (matrix, box) in enumerate(batch):
            face = AlignedFace(crops[i], matrix, points[i], attention[i], identities[i], box)
            faces.append((_doubt(points[i], found.heatmaps[i]), face))
    return faces


def _doubt(points: Tensor, heatmaps: Tensor) -> float:
    """How little landmarks `[68, 2]` px of an aligned crop and their heatmaps `[68, h, w]` look like those of a face:
    the share of a heatmap that its peak covers, and how far one more fit would move the landmarks."""
    peaks = heatmaps.amax((1, 2), keepdim=True).clamp_min(1e-12)
    found = points.double().numpy()
    try:
        moved = transform_points(fit_similarity(five_points(found), FFHQ_512), found)
    except GeometryError:
        return math.inf
    unrest = float(np.linalg.norm(moved - found, axis=1).mean())
    return float((heatmaps / peaks).mean()) + _DOUBT_PER_PIXEL * unrest


def _crop(picture: Pixels, matrix: Matrix) -> Pixels:
    if np.array_equal(matrix, [(1, 0, 0), (0, 1, 0)]) and picture.shape[:2] == (ALIGNED_SIZE, ALIGNED_SIZE):
        return picture
    return warp(picture, matrix, (ALIGNED_SIZE, ALIGNED_SIZE))


def _matrix_of_box(box: tuple[float, float, float, float], turns: int) -> Matrix:
    """The transform that frames a detector's box about as FFHQ frames a face, after so many quarter turns."""
    x0, y0, x1, y1 = box
    scale = _BOX_SIDE / math.sqrt(max((x1 - x0) * (y1 - y0), 1.0))
    linear = scale * np.linalg.matrix_power(np.array([(0.0, -1.0), (1.0, 0.0)]), turns)
    return np.column_stack([linear, _BOX_CENTRE - linear @ np.array([x0 + x1, y0 + y1]) / 2])


def _side(detection: Detection) -> float:
    x0, y0, x1, y1 = detection.box
    return math.sqrt(max(x1 - x0, 0) * max(y1 - y0, 0))


def _batches(items: Sequence[Item]) -> list[Sequence[Item]]:
    return [items[i : i + _AT_ONCE] for i in range(0, len(items), _AT_ONCE)]
