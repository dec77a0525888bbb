"""Aligned face photographs on disk: a CSV index or a folder per identity."""

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from models.errors import PictureError
from models.geometry import Pixels
from training.decoded_pictures import DecodedPictures, read_pixels
from training.face_index import rows_below
from training.labels import Values, read_labels

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
    rows = rows_below(root, held_out_people)
    labels = read_labels(root / "labels.npz") if (root / "labels.npz").exists() else {}
    marks, descriptors = (labels.get(kind, {}) for kind in ("landmarks", "sface"))
    return [FaceFile(root / row[0], *row[1:], marks.get(row[0]), descriptors.get(row[0])) for row in rows]
