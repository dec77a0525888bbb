"""What tests of `honestface restore` share: pictures on disk, and what a shell sees."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tests.toy_faces import ANNA, photo

FACE = ((200.0, 180.0), 240.0)


@dataclass(frozen=True)
class Outcome:
    """What a shell sees, errors printed as `honestface.main` prints them."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


def save(path: Path, skin: tuple[int, int, int] | None = ANNA) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo((*FACE, skin)) if skin else photo()).save(path)
    return path


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def truncated(path: Path) -> bytes:
    return save(path.with_suffix(".whole.jpg")).read_bytes()[:2000]
