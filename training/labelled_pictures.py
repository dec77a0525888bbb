"""Pictures with their labels, for the stages that learn from these: of no one who is held out elsewhere."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.errors import PictureError
from training.face_index import split_of
from training.labels import Values, read_labels

#: SFace's cosine above which two pictures are taken for one person: measured on the training data, 99.9 % of strangers'
#: pairs lie below it, and over 99 % of one person's above (1st percentile 0.50).
SAME_PERSON = 0.4


def labelled_pictures(
    folder: Path, split: str = "train", held_out_people: int | None = None, apart_from: Values | None = None
) -> list[tuple[Path, Values]]:
    """Pictures of `split` that `labels.npz` or `landmarks.npz` names, with their 68 landmarks in the picture's pixels.

    The split is that of `load_faces`; what stands neither in an index nor in a folder per person is for training.
    Left out is who is too like one of `apart_from`, descriptors `[N, d]` of people held out elsewhere: nearer than
    `SAME_PERSON`. A folder without descriptors says of nobody who it is, so it is taken whole.

    Raises:
        PictureError: as `load_faces`, or no such labels, or nobody is left.
    """
    return [(path, marks) for path, (marks,) in _labels(folder, ["landmarks"], split, held_out_people, apart_from)]


def described_pictures(
    folder: Path, held_out_people: int | None = None, apart_from: Values | None = None
) -> list[tuple[Path, Values, Values]]:
    """Training pictures of `folder` with their landmarks `[68, 2]` and the teacher's descriptors `[128]`.

    As `labelled_pictures`, but a folder without descriptors is an error.
    """
    found = _labels(folder, ["landmarks", "sface"], "train", held_out_people, apart_from)
    return [(path, marks, descriptor) for path, (marks, descriptor) in found]


def _labels(
    folder: Path, kinds: Sequence[str], split: str, held_out_people: int | None, apart_from: Values | None
) -> list[tuple[Path, list[Values]]]:
    path = next((folder / name for name in ("labels.npz", "landmarks.npz") if (folder / name).exists()), None)
    if path is None:
        raise PictureError(f"{folder}: no labels.npz or landmarks.npz")
    labels = read_labels(path)
    for kind in kinds:
        if kind not in labels:
            raise PictureError(f"{path} has no {kind}")
    split_of_file = split_of(folder, held_out_people)
    names = [name for name in labels[kinds[0]] if split_of_file(name) == split]
    if not names:
        raise PictureError(f"{path} has no pictures of the {split} split")
    if apart_from is not None and "sface" in labels:
        names = [name for name in names if not _shows_one_of(apart_from, labels["sface"][name], path)]
        if not names:
            raise PictureError(f"{path} has no pictures but of people who are held out")
    return [(folder / name, [labels[kind][name] for kind in kinds]) for name in names]


def _shows_one_of(people: Values, descriptor: Values, labels: Path) -> bool:
    """Whether a descriptor `[d]` is nearer than `SAME_PERSON` to one of `[N, d]`."""
    if descriptor.shape != people.shape[1:]:
        raise PictureError(f"{labels} has descriptors of another kind than those of the people held out")
    lengths = np.linalg.norm(people, axis=1) * np.linalg.norm(descriptor)
    return bool((people @ descriptor > SAME_PERSON * lengths).any())
