"""How many faces a bundle's face tools find and align rightly, wrongly or not at all, and what else they take for one.

    python -m benchmarks.finding --photos data/photos --faces data/faces [--bundle DIR ...] [--count 60]

Shown are held-out whole photographs of one face each and aligned faces of 512 px, degraded, small or turned, and pieces
of the photographs beside the face. A face is right where its labelled landmarks come to lie within `OFF` px of the
512 px crop, on average, of where they belong.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.arguments import at_least_one
from models.aligned_face import align_largest, find_faces
from models.bundle import load_bundle
from models.errors import HonestFaceError, NoFaceError
from models.face_analyzer import FaceAnalyzer
from models.geometry import (
    FFHQ_512,
    Matrix,
    Pixels,
    enlargement,
    fit_similarity,
    five_points,
    shrink,
    transform_points,
)
from training.decoded_pictures import read_pixels
from training.degradation import PRESETS, degrade
from training.labelled_pictures import labelled_pictures
from training.labels import Values

#: Mean error in px from which on an aligned face counts as wrong: a tenth of the crop.
OFF = 51.2
#: Side in px of a face of the presets' 512 px.
_ALIGNED_FACE = 250.0
_SMALLEST_PIECE = 48


@dataclass(frozen=True)
class Shown:
    """A picture and where its face's 68 landmarks are, or None where it has no face."""

    picture: Pixels
    landmarks: Matrix | None


@dataclass
class Tally:
    """Faces that were found rightly, wrongly, not at all; of pictures without faces, wrongly or (rightly) not at all.
    `errors` are those of the right ones, px of the 512 px crop."""

    right: int = 0
    wrong: int = 0
    refused: int = 0
    errors: tuple[float, ...] = ()

    def count(self, error: float | None) -> None:
        """`error` is None where no face was found, infinite where there was none to be found."""
        if error is None:
            self.refused += 1
        elif error > OFF:
            self.wrong += 1
        else:
            self.right += 1
            self.errors += (error,)

    def __str__(self) -> str:
        error = f", {np.mean(self.errors):.1f} px" if self.errors else ""
        return f"{self.right}, {self.wrong}, {self.refused}{error}"


def error_of(analyzer: FaceAnalyzer, shown: Shown) -> float | None:
    """How far the largest face's crop is from the right one in px, or None if no face is found."""
    try:
        face = align_largest(analyzer, shown.picture, find_faces(analyzer, shown.picture))
    except NoFaceError:
        return None
    if shown.landmarks is None:
        return float("inf")
    right = transform_points(fit_similarity(five_points(shown.landmarks), FFHQ_512), shown.landmarks)
    return float(np.linalg.norm(transform_points(face.matrix, shown.landmarks) - right, axis=1).mean())


def photographs(labelled: Sequence[tuple[Path, Values]]) -> Iterator[tuple[str, Shown]]:
    for place, (path, marks) in enumerate(labelled):
        picture, landmarks = read_pixels(path), marks.astype(float)
        height, width = picture.shape[:2]
        yield "photographs", Shown(picture, landmarks)
        quarter = shrink(picture, (width // 4, height // 4))
        yield "a quarter of the size", Shown(quarter, transform_points(enlargement(0.25), landmarks))
        for turns in (1, 2, 3):
            yield f"turned by {90 * turns} degrees", _turned(picture, landmarks, turns)
        scale = min(1.0, float(np.sqrt(np.ptp(landmarks, axis=0).prod())) / _ALIGNED_FACE)
        for number, preset in enumerate(("vqfr-v1", "vqfr-v2", "wide", "print")):
            rng = np.random.default_rng((31, number, place))
            yield f"photographs, {preset}", Shown(degrade(picture, PRESETS[preset], rng, scale), landmarks)


def aligned_faces(labelled: Sequence[tuple[Path, Values]]) -> Iterator[tuple[str, Shown]]:
    for place, (path, marks) in enumerate(labelled):
        picture, landmarks = read_pixels(path), marks.astype(float)
        scale = picture.shape[0] / 512
        for number, preset in enumerate(("vqfr-v1", "vqfr-v2", "wide", "small", "print")):
            rng = np.random.default_rng((32, number, place))
            yield f"aligned faces, {preset}", Shown(degrade(picture, PRESETS[preset], rng, scale), landmarks)


def pieces(labelled: Sequence[tuple[Path, Values]]) -> Iterator[tuple[str, Shown]]:
    """What is left, right and above of each face and below its chin, every other one degraded."""
    for place, (path, marks) in enumerate(labelled):
        picture = read_pixels(path)
        low, high = marks.min(0), marks.max(0)
        room = 0.25 * (high - low)
        (left, top), (right, bottom) = (low - (1, 2) * room).astype(int), (high + room).astype(int)
        beside = (picture[:, : max(0, left)], picture[:, right:], picture[: max(0, top)], picture[bottom:])
        for number, piece in enumerate(beside):
            if min(piece.shape[:2]) >= _SMALLEST_PIECE:
                piece = np.ascontiguousarray(piece)
                if (place + number) % 2:
                    piece = degrade(piece, PRESETS["vqfr-v1"], np.random.default_rng((33, place, number)), 0.5)
                yield "pieces beside the face", Shown(piece, None)


def _turned(picture: Pixels, landmarks: Matrix, turns: int) -> Shown:
    """By so many quarters, anticlockwise."""
    for _ in range(turns):
        width = picture.shape[1]
        landmarks = np.column_stack([landmarks[:, 1], width - 1 - landmarks[:, 0]])
        picture = np.ascontiguousarray(np.rot90(picture))
    return Shown(picture, landmarks)


def measure(analyzers: Sequence[FaceAnalyzer], shown: Iterator[tuple[str, Shown]]) -> dict[str, list[Tally]]:
    """By kind of picture, each bundle's tally."""
    found: dict[str, list[Tally]] = {}
    for kind, picture in shown:
        tallies = found.setdefault(kind, [Tally() for _ in analyzers])
        for analyzer, tally in zip(analyzers, tallies, strict=True):
            tally.count(error_of(analyzer, picture))
    return found


def markdown(names: Sequence[str], found: dict[str, list[Tally]]) -> str:
    lines = ["| right, wrong, refused, mean error | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    return "\n".join([*lines, *(f"| {kind} | " + " | ".join(map(str, row)) + " |" for kind, row in found.items())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="whole photographs with landmarks.npz")
    parser.add_argument("--faces", type=Path, required=True, help="aligned faces with landmarks in labels.npz")
    parser.add_argument(
        "--bundle", type=Path, action="append", help="bundle folder; repeatable; none: the embedded one"
    )
    parser.add_argument("--count", type=at_least_one, default=60, help="photographs, and aligned faces, at most")
    options = parser.parse_args()
    try:
        bundles = [load_bundle(folder) for folder in options.bundle or [None]]
        photos, faces = (labelled_pictures(folder, "val") for folder in (options.photos, options.faces))
        found = {}
        for kinds in (
            photographs(photos[: options.count]),
            aligned_faces(faces[:: max(1, len(faces) // options.count)]),
            pieces(photos),
        ):
            found |= measure([bundle.analyzer for bundle in bundles], kinds)
    except HonestFaceError as error:
        sys.exit(str(error))
    print(markdown([f"{bundle.manifest.name} {bundle.manifest.version}" for bundle in bundles], found))


if __name__ == "__main__":
    main()
