"""How much work a file is for Pillow beyond what its pixels tell: small ones can be made to take minutes.

Pillow follows a file's structure step by step, as far as it goes. What is looked at here is counted in files, before
Pillow reads them and before it decodes them; what is merely broken is left to Pillow, which refuses it.
"""

import io
import re
import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

from PIL import Image, ImageFile

from models.avif_frame import frame_sizes
from models.errors import PictureError

#: Reads of one file. Each step of Pillow's takes one or more, of a microsecond each; a photograph in strips of one row
#: takes some 10,000.
_MOST_READS = 100_000
#: Markers of a JPEG up to its end: 20 MB of metadata are 305 segments of 64 KiB, and a scan has up to ten tables.
_MOST_MARKERS = 2_000
#: Segments of EXIF, of up to 64 KiB: Pillow copies what it has for each. Almost all JPEGs have one.
_MOST_EXIF_SEGMENTS = 16
#: A progressive JPEG has some ten scans, and each costs a pass over the whole picture.
_MOST_SCANS = 100
#: A marker of a JPEG: what follows 0xff elsewhere is 0 in the scans' data, a restart, or padding.
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_EXIF, _START_OF_SCAN, _END_OF_IMAGE = 0xE1, 0xDA, 0xD9
#: The markers behind which Pillow sees no length, so that whatever follows is looked at.
_WITHOUT_LENGTH = frozenset([0x01, 0xC8, 0xD8, 0xD9, *range(0xF0, 0xFE)])
#: Chunks of a PNG: 20 MB are 2,500 of 8 KiB, as libpng writes them, and some have one for each row.
_MOST_CHUNKS = 30_000
#: A chunk of these may be inflated to 1 MiB, in 2 ms.
_INFLATED, _MOST_INFLATED = (b"iCCP", b"zTXt", b"iTXt"), 100
#: TIFF's tags: the sizes, and where strips and tiles lie and how many bytes they have.
_WIDTH, _LENGTH, _TILE_WIDTH, _TILE_LENGTH, _STRIPS = 256, 257, 322, 323, (273, 279, 324, 325)
#: Those of bytes or text may be long, such as profiles and XMP; but of these Pillow takes bytes for numbers.
_BYTES, _NEVER_LONG = (1, 2, 7), (320, 338, 339)
#: The directories of EXIF, GPS and interoperability.
_FURTHER = (34665, 34853, 40965)
#: Entries of a directory: a photograph has some fifty. Their numbers besides strips: a palette has 768.
_MOST_ENTRIES, _MOST_NUMBERS = 1_000, 20_000
#: Strips or tiles of a TIFF: 64 megapixels have 1,000 tiles of 256 x 256, and seldom more than 10,000 rows.
_MOST_STRIPS = 65_536
#: Where the bits of each byte are turned round in a TIFF, libtiff turns all bytes that its strips are said to have: so
#: many in 0.1 s, or so many times the file.
_BYTE_COUNTS, _ANY_TURNED, _MOST_TURNED = (279, 325), 64 * 1024 * 1024, 4
#: The bytes of a TIFF's types, and those that are whole numbers.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WHOLE = (1, 3, 4, 6, 8, 9, 13, 16, 17, 18)
#: What an AVIF says of an item that is EXIF.
_AVIF_EXIF = re.compile(rb"(infe(?:\x02.{7}|\x03.{9}))Exif", re.DOTALL)
#: Pixels that any picture may have in one tile of a TIFF or in the frames of an AVIF, and in all tiles.
_ANY_PICTURE, _ANY_TILES = 1024 * 1024, 16 * 1024 * 1024
#: How often the tiles that Pillow decodes may cover the picture: a TIFF's planes, one for each of up to six channels.
_MOST_LAYERS = 8
#: Pillow decodes run lengths in Python: up to two seconds for so many pixels.
_MOST_RUN_LENGTH_PIXELS = 4_000_000


class Reads(io.BytesIO):
    """A file in memory that is read only so often; `allow` more reads where the picture needs them."""

    def __init__(self, data: bytes, label: str) -> None:
        super().__init__(data)
        self._label, self._left = label, _MOST_READS

    def allow(self, more: int) -> None:
        self._left += more

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise PictureError(f"the {self._label} file is in far more pieces than a picture needs")
        return io.BytesIO.read(self, size)


def check_file(data: bytes, format: str) -> None:
    """Looks through a file that has not been read.

    Raises:
        PictureError: reading its header would take far more time or memory than it should.
    """
    if format == "jpeg":
        _check_jpeg(data)
    elif format == "png":
        _check_png(data)
    elif format == "tiff":
        if data.startswith(b"MM\0+"):  # where Pillow and libtiff each look for another directory
            raise PictureError("the TIFF file is a BigTIFF with its high bytes first, which is not read")
        directory = _Directory(data)
        _check_tags(directory, "TIFF")
        _check_tile_sizes(directory)


def _check_jpeg(data: bytes) -> None:
    markers = exif = scans = 0
    place = 2
    while marker := _MARKER.search(data, place):
        code, place = marker[1][0], marker.end()
        if code == _END_OF_IMAGE and scans:
            return
        markers += 1
        scans += code == _START_OF_SCAN
        exif += code == _EXIF and data.startswith(b"Exif\0\0", place + 2)
        if scans > _MOST_SCANS:
            raise PictureError(f"the JPEG file has more than {_MOST_SCANS} scans")
        if markers > _MOST_MARKERS or exif > _MOST_EXIF_SEGMENTS:
            raise PictureError("the JPEG file has far more segments than a picture needs")
        if code not in _WITHOUT_LENGTH:
            place += max(2, int.from_bytes(data[place : place + 2], "big"))


def _check_png(data: bytes) -> None:
    chunks, inflated, place = 0, 0, 8
    while (kind := data[place + 4 : place + 8]) and kind != b"IEND":
        chunks, inflated = chunks + 1, inflated + (kind in _INFLATED)
        if chunks > _MOST_CHUNKS or inflated > _MOST_INFLATED:
            raise PictureError("the PNG file has far more chunks than a picture needs")
        place += 12 + int.from_bytes(data[place : place + 4], "big")


class _Directory:
    """The first directory of a TIFF, or of EXIF, which is one without pixels; what is broken is no error here."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._order: Literal["little", "big"] = "big" if data[:2] == b"MM" else "little"
        big = data[2:3] == b"+"  # BigTIFF
        counted, self._entry_bytes, self._place_bytes = (8, 20, 8) if big else (2, 12, 4)
        start = self._number(8 if big else 4, self._place_bytes)
        self.entries, self._start = self._number(start, counted), start + counted

    def _number(self, place: int, size: int) -> int:
        return int.from_bytes(self.data[place : place + size], self._order)

    def tags(self) -> Iterator[tuple[int, int, int, int]]:
        """Tag, type, count, and where the values lie, of each entry."""
        entries = min(self.entries, (len(self.data) - self._start) // self._entry_bytes)
        for place in range(self._start, self._start + entries * self._entry_bytes, self._entry_bytes):
            tag, kind = self._number(place, 2), self._number(place + 2, 2)
            count, values = self._number(place + 4, self._place_bytes), place + 4 + self._place_bytes
            if count * _SIZES.get(kind, 0) > self._place_bytes:
                values = self._number(values, self._place_bytes)
            yield tag, kind, count, values

    def values(self, kind: int, count: int, place: int) -> tuple[int, ...]:
        """Whole numbers, as far as the file goes, and negative ones as very large ones."""
        size = _SIZES[kind]
        count = max(0, min(count, (len(self.data) - place) // size))
        form = f"{'<' if self._order == 'little' else '>'}{count}{ {1: 'B', 2: 'H', 4: 'I', 8: 'Q'}[size] }"
        return struct.unpack_from(form, self.data, place) if count else ()


def _check_tags(directory: _Directory, label: str) -> None:
    numbers, length = 0, len(directory.data)
    if directory.entries > _MOST_ENTRIES:
        raise PictureError(f"the {label} file is damaged, or has far more tags than a picture needs")
    for tag, kind, count, place in directory.tags():
        if tag not in _STRIPS:
            long = kind in _BYTES and tag not in _NEVER_LONG
            # Pillow leaves out what does not fit in the file.
            numbers += count if not long and count * _SIZES.get(kind, 0) <= length else 0
        elif count > _MOST_STRIPS:
            raise PictureError(f"the {label} file is damaged, or has far more strips than a picture needs")
        elif tag in _BYTE_COUNTS and kind in _WHOLE:
            turned = sum(min(size, length) for size in directory.values(kind, count, place))
            if turned > max(_ANY_TURNED, _MOST_TURNED * length):
                raise PictureError(f"the {label} file is damaged: its strips are together far larger than the file")
    if numbers > _MOST_NUMBERS:
        raise PictureError(f"the {label} file is damaged, or has tags of far more numbers than a picture needs")


def _check_tile_sizes(directory: _Directory) -> None:
    """What libtiff reads, which goes on where Pillow leaves out tags: it decodes each tile whole."""
    sizes: dict[int, int] = {}
    for tag, kind, count, place in directory.tags():
        if tag in (_WIDTH, _LENGTH, _TILE_WIDTH, _TILE_LENGTH):
            values = directory.values(kind, count, place) if kind in _WHOLE and count == 1 else ()
            if tag in sizes or not values:
                raise PictureError("the TIFF file is damaged: it has two sizes, or one that is no number")
            sizes[tag] = values[0]
    width, height = sizes.get(_WIDTH, 0), sizes.get(_LENGTH, 0)
    tile_width, tile_height = sizes.get(_TILE_WIDTH, 0), sizes.get(_TILE_LENGTH, 0)
    if tile_width and tile_height:
        tile, tiles = tile_width * tile_height, -(-width // tile_width) * -(-height // tile_height)
        most = max(4 * width * height, _ANY_PICTURE)
        if tile > most or tile * tiles > max(most, _ANY_TILES):
            raise PictureError("the TIFF file is damaged: its tiles are far larger than the picture")


def check_image(data: bytes, file: Reads, image: ImageFile.ImageFile, format: str) -> None:
    """Looks at a picture whose header has been read.

    Raises:
        PictureError: decoding it would take far more time or memory than its size tells.
    """
    pixels = image.width * image.height
    if format == "avif":
        try:
            frames = sum(frame_sizes(data))
        except ValueError as error:
            raise PictureError(f"the AVIF file is damaged, or of a kind that is not read: {error}") from None
        if frames > max(4 * pixels, _ANY_PICTURE):
            raise PictureError("the AVIF file is damaged: its frames are far larger than the picture")
    if any(tile.codec_name == "bmp_rle" for tile in image.tile):
        if pixels > _MOST_RUN_LENGTH_PIXELS:
            most_megapixels = _MOST_RUN_LENGTH_PIXELS / 1e6
            raise PictureError(f"the BMP file has run lengths: so only {most_megapixels:g} megapixels are read")
        file.allow(pixels)
    _check_tiles(image, pixels)


def _check_tiles(image: ImageFile.ImageFile, pixels: int) -> None:
    """What Pillow decodes piece by piece: only TIFFs have more than one."""
    damaged = PictureError(f"the {image.format} file is damaged: its strips lie above one another")
    covered, places = 0, []
    for _, extents, place, _ in image.tile:
        left, top, right, bottom = extents or (0, 0, *image.size)
        area = max(0, right - left) * max(0, bottom - top)
        covered += area
        if not isinstance(place, int):
            raise damaged
        places.append((place, area))
    if covered > max(_MOST_LAYERS * pixels, _ANY_PICTURE):
        raise damaged
    places.sort()
    for (place, area), (following, _) in pairwise(places):
        # Pillow reads up to where the next one begins, again and again, and copies what it has each time. A pixel has
        # at least a bit.
        if 0 < following - place < area // 8:
            raise damaged


def check_exif(exif: bytes) -> None:
    """Looks at EXIF that has not been read.

    Raises:
        PictureError: its tags have far more values than those of a picture.
    """
    _check_tags(_Directory(exif.removeprefix(b"Exif\0\0").removeprefix(b"Exif\0\0")), "EXIF")


def without_exif(data: bytes, format: str) -> bytes:
    """An AVIF without EXIF, which Pillow would read with its header: how the picture is turned is told elsewhere."""
    return _AVIF_EXIF.sub(rb"\1none", data) if format == "avif" else data


def forget_directories(image: ImageFile.ImageFile) -> None:
    """Lets Pillow read no directory of a TIFF but the first: of the others it would read every tag."""
    if hasattr(image, "tag_v2"):
        exif = image.getexif()
        for tag in _FURTHER:
            if tag in exif:
                del exif[tag]


def tiff_number(image: Image.Image, tag: int, default: int) -> int:
    """A TIFF's tag where it is a number, or the first of several; else the default."""
    value = getattr(image, "tag_v2", {}).get(tag, default)
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) else default
