"""Aligned face photographs on disk: a CSV index or a folder per identity, kept decoded in memory."""

import csv
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.errors import PictureError

Pixels = NDArray[np.uint8]
PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
#: Grey levels that two pictures of 32 px differ by at most if they are one photograph; two of one sitting differ by 4.
_COPY = 2.0


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
    landmarks: NDArray[np.float32] | None
    descriptor: NDArray[np.float32] | None


@dataclass
class Faces:
    """A list of faces with decoded pixels (uint8, cached) and the other pictures of each identity."""

    files: list[FaceFile]
    _pixels: dict[int, Pixels] = field(default_factory=dict)
    _enlarged: dict[int, Pixels] = field(default_factory=dict)
    _thumbnails: dict[int, NDArray[np.float32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.files:
            raise PictureError("no face pictures found for this split")
        self.of_identity: dict[str, list[int]] = defaultdict(list)
        for index, file in enumerate(self.files):
            self.of_identity[file.identity].append(index)
        self.targets = [index for index, file in enumerate(self.files) if file.hq]

    def pixels(self, index: int) -> Pixels:
        """RGB `[S, S, 3]` in the file's own size."""
        if index not in self._pixels:
            with Image.open(self.files[index].path) as image:
                self._pixels[index] = np.asarray(image.convert("RGB"))
        return self._pixels[index]

    def enlarged(self, index: int) -> Pixels:
        """RGB `[512, 512, 3]`; kept as well, since enlarging costs more than degrading."""
        picture = self.pixels(index)
        if picture.shape[0] == 512:
            return picture
        if index not in self._enlarged:
            self._enlarged[index] = np.asarray(Image.fromarray(picture).resize((512, 512), Image.Resampling.BICUBIC))
        return self._enlarged[index]

    def forget(self) -> None:
        """Free the decoded pictures."""
        self._pixels.clear()
        self._enlarged.clear()

    def others(self, index: int) -> list[int]:
        """Other photographs of the same person; the same one under another name is none."""
        same = self.of_identity[self.files[index].identity]
        return [i for i in same if i != index and not self._are_copies(i, index)]

    def _are_copies(self, one: int, other: int) -> bool:
        difference = self._thumbnail(one) - self._thumbnail(other)
        return float(np.abs(difference).mean()) < _COPY

    def _thumbnail(self, index: int) -> NDArray[np.float32]:
        if index not in self._thumbnails:
            small = Image.fromarray(self.pixels(index)).convert("L").resize((32, 32), Image.Resampling.BOX)
            self._thumbnails[index] = np.asarray(small, np.float32)
        return self._thumbnails[index]


def load_faces(root: Path, split: str, held_out_people: int | None = None) -> Faces:
    """Faces of `split` below `root`.

    Either `root/index.csv` lists them (file, identity, split, hq), with an optional `labels.npz` beside it (files,
    landmarks, sface), or there is a folder per identity, in the order of their names (numbers as numbers), of which the
    first `held_out_people` are `val`, or else every tenth; then too `labels.npz` may stand beside them.
    """
    return Faces([file for file in all_files(root, held_out_people) if file.split == split])


def all_files(root: Path, held_out_people: int | None = None) -> list[FaceFile]:
    """The faces of all splits below `root`: see `load_faces`."""
    if not root.is_dir():
        raise PictureError(f"{root} is no folder of face pictures")
    index = root / "index.csv"
    return _from_csv(root, index) if index.exists() else _from_folders(root, held_out_people)


def _from_csv(root: Path, index: Path) -> list[FaceFile]:
    landmarks, descriptors = _all_labels(root)
    with index.open(newline="") as stream:
        return [
            FaceFile(
                path=root / row["file"],
                identity=row["identity"],
                split=row["split"],
                hq=row["hq"] == "1",
                landmarks=landmarks.get(row["file"]),
                descriptor=descriptors.get(row["file"]),
            )
            for row in csv.DictReader(stream)
        ]


def _from_folders(root: Path, held_out_people: int | None) -> list[FaceFile]:
    landmarks, descriptors = _all_labels(root)
    folders = sorted((path for path in root.iterdir() if path.is_dir()), key=lambda path: _numbers_in_order(path.name))
    found = []
    for number, folder in enumerate(folders):
        held_out = number % 10 == 0 if held_out_people is None else number < held_out_people
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in PICTURE_SUFFIXES:
                name = path.relative_to(root).as_posix()
                marks, descriptor = landmarks.get(name), descriptors.get(name)
                found.append(FaceFile(path, folder.name, "val" if held_out else "train", True, marks, descriptor))
    return found


def _numbers_in_order(name: str) -> list[tuple[bool, int, str]]:
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]


def _all_labels(root: Path) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
    """Landmarks and descriptors by file, as far as `root/labels.npz` has them."""
    if not (root / "labels.npz").exists():
        return {}, {}
    with np.load(root / "labels.npz", allow_pickle=False) as data:
        names = [str(name) for name in data["files"]]
        marks, descriptors = (
            dict(zip(names, data[kind].astype(np.float32), strict=True)) if kind in data else {}
            for kind in ("landmarks", "sface")
        )
    return marks, descriptors


def labelled_pictures(folder: Path, split: str = "train") -> list[tuple[Path, NDArray[np.float32]]]:
    """Pictures of `folder` with their 68 landmarks in the picture's pixels."""
    return _labels(folder, "landmarks", split)


def described_pictures(folder: Path) -> list[tuple[Path, NDArray[np.float32], NDArray[np.float32]]]:
    """Training pictures of `folder` with their landmarks `[68, 2]` and the teacher's descriptors `[128]`."""
    marks = dict(_labels(folder, "landmarks", "train"))
    return [(path, marks[path], descriptor) for path, descriptor in _labels(folder, "sface", "train")]


def _labels(folder: Path, kind: str, split: str) -> list[tuple[Path, NDArray[np.float32]]]:
    """One kind of label of `labels.npz` or `landmarks.npz`; a file that no index.csv puts elsewhere is for training."""
    labels = next((folder / name for name in ("labels.npz", "landmarks.npz") if (folder / name).exists()), None)
    if labels is None:
        raise PictureError(f"{folder}: no labels.npz or landmarks.npz")
    splits: dict[str, str] = {}
    if (folder / "index.csv").exists():
        with (folder / "index.csv").open(newline="") as stream:
            splits = {row["file"]: row["split"] for row in csv.DictReader(stream)}
    with np.load(labels, allow_pickle=False) as data:
        if kind not in data:
            raise PictureError(f"{labels} has no {kind}")
        pairs = zip(data["files"], data[kind].astype(np.float32), strict=True)
        found = [(folder / str(name), label) for name, label in pairs if splits.get(str(name), "train") == split]
    if not found:
        raise PictureError(f"{labels} has no pictures of the {split} split")
    return found
