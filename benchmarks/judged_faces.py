"""The faces that judges look at, restored: degraded held-out faces, and really small pictures of held-out people.

The small pictures lie in a folder with index.csv: file, identity, split, same_photo_as_hq (1: it shows the shot of a
sharp face that the data has of that person) and mirrored (1: it was turned over).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from models.aligned_face import AlignedFace, whole_picture
from models.bundle import Bundle
from models.errors import PictureError
from models.face_restorer import FaceJob, FaceRestorer, Options
from models.geometry import ALIGNED_SIZE, Matrix, Pixels, fit_similarity, shrink, warp
from models.picture import Picture, decode
from models.references import Reference
from training.degradation import PRESETS, degrade
from training.evaluation import reference_of, restored_rows, stranger_of
from training.face_index import read_index
from training.faces import Faces

#: Side of the pictures that are compared to find out which photograph a small one shows.
_SMALL = 32


@dataclass(frozen=True)
class SmallPicture:
    """A picture of a shot that one of `identity`'s sharp faces shows, turned as that one."""

    identity: str
    pixels: Pixels


@dataclass(frozen=True)
class RealPair:
    """The face as it was (input) and restored (blind; references, if the person has other pictures), each
    `[512, 512, 3]` and where `truth` has it."""

    truth: Pixels
    rows: Mapping[str, Pixels]


def restored_faces(
    bundle: Bundle, faces: Faces, preset: str, count: int, device: str = "cpu"
) -> Iterator[tuple[Pixels, dict[str, Pixels]]]:
    """The truth, and by row its degraded and restored faces: those of `honestface evaluate` with two references."""
    degradation, guided = replace(PRESETS[preset], clean=0.0), bundle.generator.takes_references
    restorer = FaceRestorer(bundle.generator, bundle.analyzer, device)
    options = Options(faces="aligned", diagnostics="none")
    targets = [index for index in faces.targets if faces.others(index)][:count]
    for place, index in enumerate(targets):
        truth = faces.enlarged(index)
        lq = degrade(truth, degradation, np.random.default_rng((7, place)))
        given: dict[str, list[int]] = {"blind": []}
        if guided:
            given |= {"references": faces.others(index)[:2], "wrong references": [stranger_of(faces, targets, place)]}
        shown = {row: [reference_of(bundle, faces, other) for other in others] for row, others in given.items()}
        yield truth, {"input": lq, **restored_rows(restorer, lq, shown, options)[0]}


def small_pictures(folder: Path, faces: Faces, split: str) -> list[SmallPicture]:
    """The pictures of `split` that have a partner among the sharp `faces`.

    Raises:
        PictureError: the index is missing or lacks a column, a picture cannot be read, or there is none.
    """
    sharp = {faces.files[index].identity for index in faces.targets}
    found = []
    for row in read_index(folder, "identity", "same_photo_as_hq", "mirrored"):
        if row["split"] == split and row["same_photo_as_hq"] == "1" and row["identity"] in sharp:
            path = folder / row["file"]
            try:
                pixels = decode(path.read_bytes()).pixels
            except (OSError, PictureError) as error:
                raise PictureError(f"{path} cannot be read: {error}") from None
            turned = pixels[:, ::-1].copy() if row["mirrored"] == "1" else pixels
            found.append(SmallPicture(row["identity"], turned))
    if not found:
        raise PictureError(f"{folder} has no small picture of the shot of a sharp face in {faces.source}")
    return found


def restored_pairs(
    bundle: Bundle, faces: Faces, pictures: Sequence[SmallPicture], device: str, references: int = 2
) -> Iterator[RealPair]:
    """Each picture's face as `honestface restore` treats it: found, aligned, restored blind and with up to so many of
    the person's other pictures.

    Raises:
        NoFaceError: a picture shows none.
    """
    restorer = FaceRestorer(bundle.generator, bundle.analyzer, device)
    options = Options(diagnostics="none")
    for picture in pictures:
        prepared = restorer.prepare(Picture(picture.pixels), options)
        face = prepared.faces[0]
        index, onto = _same_shot(bundle, faces, picture.identity, face)
        given: dict[str, tuple[Reference, ...]] = {"blind": ()}
        if bundle.generator.takes_references and (others := faces.others(index)[:references]):
            given["references"] = tuple(reference_of(bundle, faces, other) for other in others)
        rows = {"input": face.crop}
        for name, shown in given.items():
            jobs = (FaceJob(face, shown),)
            rows[name] = restorer.finish(prepared, jobs, restorer.generate(jobs), options).faces[0].crop
        yield RealPair(faces.enlarged(index), {name: _moved(crop, onto) for name, crop in rows.items()})


def _same_shot(bundle: Bundle, faces: Faces, identity: str, face: AlignedFace) -> tuple[int, Matrix]:
    """The person's sharp face that looks most like this one when it is put onto it by landmarks, and how it is put."""
    tried = []
    for index in faces.targets:
        if faces.files[index].identity == identity:
            truth = whole_picture(bundle.analyzer, faces.enlarged(index))
            onto = fit_similarity(face.landmarks.numpy(), truth.landmarks.numpy())
            one, other = (shrink(picture, (_SMALL, _SMALL)) for picture in (_moved(face.crop, onto), truth.crop))
            tried.append((float(np.abs(one.astype(float) - other).mean()), index, onto))
    _, index, onto = min(tried, key=lambda each: each[0])
    return index, onto


def _moved(crop: Pixels, onto: Matrix) -> Pixels:
    return warp(crop, onto, (ALIGNED_SIZE, ALIGNED_SIZE))
