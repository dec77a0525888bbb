"""Aligned face photographs on disk: a CSV index or a folder per identity."""

import csv
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.errors import PictureError
from models.geometry import Pixels
from training.decoded_pictures import DecodedPictures, read_pixels

Values = NDArray[np.float32]
Floats = NDArray[np.floating[Any]]
PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
#: What an index may say of a file's sharpness, in any case of letters.
_SHARP = {"1": True, "true": True, "0": False, "false": False}
#: Grey levels that two pictures of 32 px differ by at most if they are one photograph; two of one sitting differ by 4.
_COPY = 2.0
#: SFace's cosine above which two pictures are taken for one person: measured on the training data, 99.9 % of strangers'
#: pairs lie below it, and over 99 % of one person's above (1st percentile 0.50).
SAME_PERSON = 0.4


@dataclass(frozen=True)
class FaceFile:
    """One aligned photograph.

    `hq` says that it is sharp enough to be a target; `landmarks` `[68, 2]` are in its own pixels; `descriptor` `[128]`
    is a teacher's identity embedding.
    """

    path: Path
    identity: str
    split: str
    hq: bool
    landmarks: Values | None
    descriptor: Values | None


@dataclass
class Faces:
    """A list of faces, the last used ones decoded, and the other pictures of each identity.

    Of every picture that was compared with another 1 KiB is kept. `source` says in errors where the list comes from.
    """

    files: list[FaceFile]
    source: str = "the list"
    _decoded: DecodedPictures = field(default_factory=DecodedPictures)
    _thumbnails: dict[int, Pixels] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.files:
            raise PictureError(f"{self.source} has no face pictures")
        self.of_identity: dict[str, list[int]] = defaultdict(list)
        for index, file in enumerate(self.files):
            self.of_identity[file.identity].append(index)

    @cached_property
    def targets(self) -> list[int]:
        """The faces that are sharp enough; raises PictureError if none is."""
        found = [index for index, file in enumerate(self.files) if file.hq]
        if not found:
            raise PictureError(f"{self.source} has no sharp faces (hq = 1)")
        return found

    def pixels(self, index: int) -> Pixels:
        """RGB `[S, S, 3]` in the file's own size."""
        return self._decoded.read(self.files[index].path)

    def enlarged(self, index: int) -> Pixels:
        """RGB `[512, 512, 3]`."""
        return self._decoded.read(self.files[index].path, enlarged=True)

    def descriptors(self) -> Values | None:
        """`[N, d]` of the faces that have one; None if none has."""
        found = [file.descriptor for file in self.files if file.descriptor is not None]
        return np.stack(found) if found else None

    def others(self, index: int) -> list[int]:
        """Other photographs of the same person; the same one under another name is none."""
        same = self.of_identity[self.files[index].identity]
        return [i for i in same if i != index and not self._are_copies(i, index)]

    def _are_copies(self, one: int, other: int) -> bool:
        difference = self._thumbnail(one).astype(np.float32) - self._thumbnail(other)
        return float(np.abs(difference).mean()) < _COPY

    def _thumbnail(self, index: int) -> Pixels:
        """Grey `[32, 32]`; the picture itself is not kept for it."""
        if index not in self._thumbnails:
            picture = Image.fromarray(read_pixels(self.files[index].path))
            self._thumbnails[index] = np.asarray(picture.convert("L").resize((32, 32), Image.Resampling.BOX))
        return self._thumbnails[index]


def load_faces(root: Path, split: str, held_out_people: int | None = None) -> Faces:
    """Faces of `split` below `root`.

    Either `root/index.csv` lists them (file, identity, split, hq), with an optional `labels.npz` beside it (files,
    landmarks, sface), or there is a folder per identity, in the order of their names (numbers as numbers), of which the
    first `held_out_people` are `val`, or else every tenth; then too `labels.npz` may stand beside them. Folders without
    pictures are nobody's, nor are hidden ones, whose names begin with a dot; there every picture counts as sharp.

    Raises:
        PictureError: no such folder or split, a damaged index or labels, names that lead out of `root`, or
            `held_out_people` beside an index, which says itself who is held out.
    """
    found = [file for file in all_files(root, held_out_people) if file.split == split]
    return Faces(found, f"{root}: the {split} split")


def all_files(root: Path, held_out_people: int | None = None) -> list[FaceFile]:
    """The faces of all splits below `root`: see `load_faces`."""
    if not root.is_dir():
        raise PictureError(f"{root} is no folder of face pictures")
    labels = _read_labels(root / "labels.npz") if (root / "labels.npz").exists() else {}
    marks, descriptors = (labels.get(kind, {}) for kind in ("landmarks", "sface"))
    if _has_index(root, held_out_people):
        rows = [(r["file"], r["identity"], r["split"], _sharp(root, r)) for r in _read_index(root, "identity", "hq")]
    else:
        rows = _in_folders(root, held_out_people)
    return [FaceFile(root / row[0], *row[1:], marks.get(row[0]), descriptors.get(row[0])) for row in rows]


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
    labels = _read_labels(path)
    for kind in kinds:
        if kind not in labels:
            raise PictureError(f"{path} has no {kind}")
    split_of = _split_of(folder, held_out_people)
    names = [name for name in labels[kinds[0]] if split_of(name) == split]
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


def _split_of(root: Path, held_out_people: int | None) -> Callable[[str], str]:
    if _has_index(root, held_out_people):
        splits = {row["file"]: row["split"] for row in _read_index(root)}
        return lambda name: splits.get(name, "train")
    held_out = set(_held_out_folders(root, held_out_people))
    return lambda name: "val" if Path(name).parts[0] in held_out else "train"


def _has_index(root: Path, held_out_people: int | None) -> bool:
    index = root / "index.csv"
    if index.exists() and held_out_people is not None:
        raise PictureError(f"{index} says who is held out: give held_out_people only where there is none")
    return index.exists()


def _read_index(root: Path, *more: str) -> list[dict[str, str]]:
    """The rows of `root/index.csv`, which has the columns file, split and `more`."""
    index = root / "index.csv"
    try:
        with index.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            rows, columns = list(reader), set(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PictureError(f"{index} cannot be read: {error}") from None
    needed = ("file", "split", *more)
    if missing := [column for column in needed if column not in columns]:
        raise PictureError(f"{index} has no column {', '.join(missing)}")
    for number, row in enumerate(rows, 1):
        if any(row[column] is None for column in needed):
            raise PictureError(f"{index}: picture {number} has too few columns")
        row["file"] = _inside(index, row["file"])
    return rows


def _sharp(root: Path, row: dict[str, str]) -> bool:
    sharp = _SHARP.get(row["hq"].strip().lower())
    if sharp is None:
        raise PictureError(f"{root / 'index.csv'}: hq of {row['file']} is {row['hq']!r}, must be 1 or 0")
    return sharp


def _in_folders(root: Path, held_out_people: int | None) -> list[tuple[str, str, str, bool]]:
    """File, identity, split and sharpness of the pictures in a folder per person."""
    held_out = set(_held_out_folders(root, held_out_people))
    return [
        (f"{folder}/{path.name}", folder, "val" if folder in held_out else "train", True)
        for folder in _folders(root)
        for path in sorted((root / folder).iterdir())
        if _is_picture(path)
    ]


def _held_out_folders(root: Path, held_out_people: int | None) -> list[str]:
    folders = _folders(root)
    return folders[::10] if held_out_people is None else folders[:held_out_people]


def _folders(root: Path) -> list[str]:
    shown = (path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return sorted((path.name for path in shown if any(map(_is_picture, path.iterdir()))), key=_numbers_in_order)


def _is_picture(path: Path) -> bool:
    """By its name; what macOS leaves beside a picture, `._a.jpg`, is none."""
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")


def _numbers_in_order(name: str) -> list[tuple[bool, int, str]]:
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", name)]


def _read_labels(path: Path) -> dict[str, dict[str, Values]]:
    """Landmarks and descriptors (`sface`) by file, as far as there are any."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
            names = [str(name) for name in data["files"]]
            labels = {kind: data[kind].astype(np.float32) for kind in ("landmarks", "sface") if kind in data}
    except Exception:  # zip, zlib and numpy have each their own; numpy's words advise allow_pickle
        raise PictureError(f"{path} cannot be read: it is damaged, or no file of labels") from None
    for kind, values in labels.items():
        shape = (68, 2) if kind == "landmarks" else values.shape[-1:]
        if values.shape != (len(names), *shape):
            raise PictureError(f"{path}: {len(names)} files, but {kind} of shape {list(values.shape)}")
    names = [_inside(path, name) for name in names]
    return {kind: dict(zip(names, values, strict=True)) for kind, values in labels.items()}


def refuse_labels(folder: Path) -> None:
    """Raises PictureError if there are labels in `folder`, which would be lost."""
    for name in ("labels.npz", "landmarks.npz"):
        if (folder / name).exists():
            raise PictureError(f"{folder / name} exists: it is not overwritten")


def write_labels(folder: Path, files: Sequence[str], landmarks: Sequence[Floats], sface: Sequence[Floats]) -> None:
    """`folder/labels.npz`, whole or not at all; `sface` may be empty."""
    values = {"landmarks": landmarks, "sface": sface} if sface else {"landmarks": landmarks}
    temporary = folder / "labels.part.npz"
    stacked = {kind: np.stack(rows).astype(np.float32) for kind, rows in values.items()}
    np.savez(temporary, allow_pickle=False, files=np.array(files), **stacked)
    temporary.replace(folder / "labels.npz")


def _inside(source: Path, name: str) -> str:
    """A name that `source` gives to a file beside or below it, in one spelling."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise PictureError(f"{source} names {name!r}, which is no file of its folder")
    return path.as_posix()
