"""A smaller copy of a face folder, for machines that take only so many megabytes of data along."""

import shutil
from collections import defaultdict
from pathlib import Path

from models.errors import PictureError
from training.face_index import write_index
from training.faces import FaceFile, all_files
from training.labels import write_labels

#: The part of the allowance that index, labels and the file system are left.
RESERVE = 0.08


def pack_data(root: Path, out: Path, megabytes: float, held_out_people: int | None = None) -> list[FaceFile]:
    """Copies faces of `root` as they are into `out`, with index.csv and labels.npz, and tells which.

    Whole people at a time: those of the validation split first, then those with the most pictures, because the
    reference stage needs several of one person.

    `held_out_people` as in `load_faces`: the packed index tells its split.

    Raises:
        PictureError: `out` holds something already, nobody of train or val fits, or a file is missing or not written.
    """
    try:
        return _pack(root, out, megabytes, all_files(root, held_out_people))
    except OSError as error:
        raise PictureError(f"{error.filename or out}: {error.strerror or error}") from None


def _pack(root: Path, out: Path, megabytes: float, found: list[FaceFile]) -> list[FaceFile]:
    if out.exists() and any(out.iterdir()):
        raise PictureError(f"{out} is not empty: pack into a new folder")
    people: dict[str, list[FaceFile]] = defaultdict(list)
    for file in found:
        people[file.identity].append(file)
    order = sorted(people.values(), key=lambda files: (files[0].split != "val", -len(files), files[0].identity))
    left, kept = (1 - RESERVE) * megabytes * 1e6, []
    for files in order:
        size = sum(file.path.stat().st_size for file in files)
        if size <= left:
            left -= size
            kept += files
    if not kept:
        raise PictureError(f"{megabytes} MB do not hold the pictures of one person")
    if missing := {"train", "val"} - {file.split for file in kept}:
        raise PictureError(
            f"{megabytes} MB of {root} have no pictures of the {' and the '.join(sorted(missing))} split"
        )
    for file in kept:
        target = out / file.path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.path, target)
    _write_index(root, out, kept)
    return kept


def _write_index(root: Path, out: Path, files: list[FaceFile]) -> None:
    names = [file.path.relative_to(root).as_posix() for file in files]
    write_index(out, [(name, f.identity, f.split, f.hq) for name, f in zip(names, files, strict=True)])
    described = any(file.descriptor is not None for file in files)
    labelled = [
        (name, file.landmarks, file.descriptor)
        for name, file in zip(names, files, strict=True)
        if file.landmarks is not None and (file.descriptor is not None or not described)
    ]
    if labelled:
        write_labels(
            out,
            [name for name, _, _ in labelled],
            [marks for _, marks, _ in labelled],
            [descriptor for _, _, descriptor in labelled if descriptor is not None],
        )
