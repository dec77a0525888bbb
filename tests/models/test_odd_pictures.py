"""Pictures that cost more than their size tells, and TIFFs whose tags Pillow takes as they are."""

import struct
import zlib

import pytest
from PIL import Image

from models.errors import PictureError
from models.picture import decode, read_header
from tests.pictures import colours, file, worst_quarter


def progressive(scans: int) -> bytes:
    """A JPEG whose last scan is there so many times more."""
    data = file(Image.fromarray(colours(64, 64)).convert("L"), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * scans + data[-2:]


def test_a_jpeg_of_endless_scans_is_refused_before_it_is_decoded() -> None:
    assert decode(progressive(0)).width == 64
    assert decode(progressive(50)).width == 64
    with pytest.raises(PictureError, match="more than 100 scans"):
        read_header(progressive(150))


def test_markers_in_a_jpegs_metadata_are_no_scans() -> None:
    data = file(Image.fromarray(colours()), "JPEG")
    noise = b"\xff\xda" * 1000
    comment = b"\xff\xfe" + struct.pack(">H", len(noise) + 2) + noise
    assert worst_quarter(decode(data[:2] + comment + data[2:] + noise).pixels) < 20, "nor behind its end"


def tiff(width: int, height: int, tags: dict[int, tuple[int, list[int]]], pixels: bytes) -> bytes:
    """A little-endian TIFF with one strip or tile; `tags` are type (3 short, 4 long) and values."""
    entries = {256: (4, [width]), 257: (4, [height]), **tags}
    strip = 8 + 2 + 12 * (len(entries) + 2) + 4
    tiled = 322 in tags
    entries |= {324 if tiled else 273: (4, [strip]), 325 if tiled else 279: (4, [len(pixels)])}
    directory = struct.pack("<H", len(entries))
    for tag, (kind, values) in sorted(entries.items()):
        field = struct.pack("<" + ("H" if kind == 3 else "I") * len(values), *values).ljust(4, b"\0")
        directory += struct.pack("<HHI", tag, kind, len(values)) + field
    return b"II*\0" + struct.pack("<I", 8) + directory + bytes(4) + pixels


GREY = {259: (3, [1]), 277: (3, [1])}


def test_a_tiff_of_a_small_picture_in_a_huge_tile_is_refused() -> None:
    def tiled(side: int) -> bytes:
        tags = {**GREY, 258: (3, [8]), 259: (3, [8]), 262: (3, [1]), 322: (4, [side]), 323: (4, [side])}
        return tiff(64, 64, tags, zlib.compress(bytes(side * side)))

    assert decode(tiled(256)).pixels.shape == (64, 64, 3)
    with pytest.raises(PictureError, match="tiles are far larger"):
        decode(tiled(2048))


@pytest.mark.parametrize(("bits", "photometric"), [(8, 0), (8, 1), (12, 1), (16, 0), (16, 1)])
def test_grey_tiffs_keep_their_white(bits: int, photometric: int) -> None:
    """A white and a black pixel, twice; 12 bits are packed, and Pillow reads them with photometric 1 only."""
    top = 2**bits - 1
    white, black = (top, 0) if photometric else (0, top)
    values = [white, black, white, black]
    in_bits = "".join(f"{value:0{bits}b}" for value in values)
    packed = int(in_bits, 2).to_bytes(bits // 2, "big") if bits < 16 else struct.pack("<4H", *values)
    data = tiff(4, 1, {**GREY, 258: (3, [bits]), 262: (3, [photometric])}, packed)
    assert decode(data).pixels[0, :, 0].tolist() == [255, 0, 255, 0]


def test_a_tiffs_profile_that_is_a_number_is_none() -> None:
    tags = {**GREY, 258: (3, [8]), 262: (3, [1]), 34675: (3, [5])}
    assert decode(tiff(2, 1, tags, b"\x40\x80")).pixels[0, :, 0].tolist() == [0x40, 0x80]


def test_an_avif_of_a_frame_larger_than_it_states_is_refused() -> None:
    def stating(side: int, width: int, height: int) -> bytes:
        """An AVIF of `side` px whose ispe box says something else."""
        data = file(Image.new("RGB", (side, side), (90, 90, 90)), "AVIF")
        at = data.index(b"ispe") + 8
        assert data.count(b"ispe") == 1
        return data[:at] + struct.pack(">II", width, height) + data[at + 8 :]

    assert decode(stating(64, 64, 64)).pixels.shape == (64, 64, 3)
    with pytest.raises(PictureError, match="frames are far larger"):
        read_header(stating(2048, 64, 64))
