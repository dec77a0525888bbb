"""Picture files as pixels, the last used ones kept decoded."""

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from models.errors import PictureError
from models.geometry import ALIGNED_SIZE, Pixels

#: Of decoded pictures in one `DecodedPictures`: 2,700 of 512 px, so a small data set fits.
KEPT_BYTES = 2 << 30


@dataclass
class DecodedPictures:
    """Reads picture files and keeps the last used ones, up to `KEPT_BYTES`.

    So does each copy that a data loader's worker fills: four processes of eight workers come to 64 GiB where that many
    pictures are there; what is not kept is decoded again.
    """

    _kept: OrderedDict[tuple[Path, bool], Pixels] = field(default_factory=OrderedDict)
    _kept_bytes: int = 0

    def read(self, path: Path, enlarged: bool = False) -> Pixels:
        """RGB `[H, W, 3]` in the file's own size, or `enlarge`d, which costs more than degrading does.

        Not to be written into. Raises what `read_pixels` raises.
        """
        key = (path, enlarged)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        picture = read_pixels(path)
        picture = self._kept[key] = enlarge(picture) if enlarged else picture
        self._kept_bytes += picture.nbytes
        while self._kept_bytes > KEPT_BYTES and len(self._kept) > 1:
            self._kept_bytes -= self._kept.popitem(last=False)[1].nbytes
        return picture


def enlarge(picture: Pixels) -> Pixels:
    """RGB `[S, S, 3]` as `[512, 512, 3]`; the same array where it is so already."""
    if picture.shape[0] == ALIGNED_SIZE:
        return picture
    size = (ALIGNED_SIZE, ALIGNED_SIZE)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def read_pixels(path: Path) -> Pixels:
    """A picture file as RGB `[H, W, 3]`.

    Raises:
        PictureError: it is missing, damaged or no picture.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError:
        raise PictureError(f"{path}: no such file") from None
    except Exception:  # any may come out of a decoder that was fed other bytes than it expects
        raise PictureError(f"{path} is no picture, or a damaged one") from None
