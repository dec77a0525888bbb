"""More people for the identity encoder: blends of two faces, described by the teacher itself.

A teacher's embedding can be had of any picture, not only of photographs that exist: blends are people in between, and a
student that agrees with its teacher on them agrees better on strangers.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.errors import PictureError
from models.geometry import ARCFACE_112, ARCFACE_SIZE, Pixels, fit_similarity, five_points, transform_points
from models.geometry import warp as resample
from training.decoded_pictures import read_pixels
from training.face_views import mirror_landmarks, relight
from training.faces import load_faces
from training.labelled_pictures import described_pictures, labelled_pictures
from training.labels import refuse_labels, write_labels
from training.onnx_recogniser import OnnxRecogniser

_SEED = 0
#: Pixels around the ArcFace-112 frame on each side: room for the jitter of the stage that learns from the blends.
MARGIN = 16
SIDE = ARCFACE_SIZE + 2 * MARGIN


def pictures_to_blend(
    folders: Sequence[Path], held_out_people: int | None = None
) -> list[tuple[Path, NDArray[np.float32]]]:
    """Training pictures with landmarks `[68, 2]`, of the first folder and of more that show nobody it holds out.

    Raises:
        PictureError: nothing tells whom a further folder shows: it, or the first folder, has no descriptors.
    """
    first, *more = folders
    pictures = labelled_pictures(first, held_out_people=held_out_people)
    held_out = load_faces(first, "val", held_out_people).descriptors() if more else None
    if more and held_out is None:
        raise PictureError(f"{first} has no sface descriptors of whom it holds out: further folders may show them")
    for folder in more:
        pictures += [(path, marks) for path, marks, _ in described_pictures(folder, apart_from=held_out)]
    return pictures


def blend_faces(
    pictures: list[tuple[Path, NDArray[np.float32]]], teacher: OnnxRecogniser, out: Path, count: int
) -> None:
    """Writes `count` blends of `pictures` (path, landmarks `[68, 2]`) to `out`, with a `labels.npz`.

    Raises:
        PictureError: `out` has labels already: of blends, or of photographs.
    """
    refuse_labels(out)
    out.mkdir(parents=True, exist_ok=True)
    files, marks, descriptors = [], [], []
    for number in range(count):
        rng = np.random.default_rng((_SEED, number))
        first, second = (_framed(*pictures[rng.integers(len(pictures))], mirrored=rng.random() < 0.5) for _ in range(2))
        share = rng.uniform(0.25, 0.75)
        face = relight(np.rint(share * first[0] + (1 - share) * second[0]).astype(np.uint8), rng)
        crop = face[MARGIN:-MARGIN, MARGIN:-MARGIN]
        files.append(f"{number:06d}.jpg")
        marks.append(share * first[1] + (1 - share) * second[1])
        descriptors.append(teacher.describe(crop))
        Image.fromarray(face).save(out / files[-1], quality=95)
    write_labels(out, files, marks, descriptors)


def _framed(path: Path, landmarks: NDArray[np.float32], mirrored: bool) -> tuple[Pixels, NDArray[np.float64]]:
    """The face in the ArcFace frame with its margin, and its landmarks there."""
    matrix = fit_similarity(five_points(landmarks), ARCFACE_112)
    matrix[:, 2] += MARGIN
    face = resample(read_pixels(path), matrix, (SIDE, SIDE))
    points = transform_points(matrix, landmarks)
    if mirrored:
        face = np.ascontiguousarray(face[:, ::-1])
        points = mirror_landmarks(points, SIDE)
    return face, points
