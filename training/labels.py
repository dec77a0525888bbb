"""`labels.npz` beside face pictures: their landmarks and a teacher's descriptors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import PictureError
from training.face_index import inside

Values = NDArray[np.float32]
Floats = NDArray[np.floating[Any]]


def read_labels(path: Path) -> dict[str, dict[str, Values]]:
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
    names = [inside(path, name) for name in names]
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
