"""Small files that would take Pillow seconds or minutes are refused, and what looks like them is read."""

import random
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from PIL import Image, TiffImagePlugin

from models.errors import PictureError
from models.picture import decode, read_header
from models.picture_effort import Reads, check_exif, check_file
from tests.pictures import colours, file, worst_quarter

Tag = tuple[int, int, list[int]]
#: Codes of struct for TIFF's types; rationals, which are two numbers each, are given as such.
CODES = {1: "B", 3: "H", 4: "I", 5: "II", 17: "q"}


def tiff(
    tags: list[Tag], pixels: bytes = b"", *, order: str = "<", big: bool = False, further: Sequence[Tag] = ()
) -> bytes:
    """A TIFF with `pixels` at its byte 16, then the directory of `tags`, then that of `further`, where 34665 leads."""

    def directory(at: int, tags: Sequence[Tag]) -> bytes:
        place = "Q" if big else "I"
        entry = struct.calcsize("<HH" + 2 * place)
        values_at = at + (8 if big else 2) + entry * len(tags) + (8 if big else 4)
        entries, values = struct.pack(order + ("Q" if big else "H"), len(tags)), b""
        for tag, kind, numbers in sorted(tags):
            count = len(numbers) // len(CODES[kind])
            field = struct.pack(f"{order}{count * CODES[kind]}", *numbers)
            if len(field) > struct.calcsize(order + place):
                field, values = struct.pack(order + place, values_at + len(values)), values + field
            entries += struct.pack(f"{order}HH{place}", tag, kind, count)
            entries += field.ljust(struct.calcsize(order + place), b"\0")
        return entries + bytes(8 if big else 4) + values

    at = 16 + len(pixels)
    if further:
        tags = [*tags, (34665, 4, [at + len(directory(at, [*tags, (34665, 4, [0])]))])]
    first = struct.pack(order + ("HHQ" if big else "I"), *((8, 0, at) if big else (at,)))
    mark = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    body = directory(at, tags)
    return (mark + first).ljust(16, b"\0") + pixels + body + (directory(at + len(body), further) if further else b"")


def grey(width: int, height: int, bits: int = 8, compression: int = 1) -> list[Tag]:
    described = [(256, 4, [width]), (257, 4, [height]), (258, 3, [bits]), (259, 3, [compression]), (262, 3, [1])]
    return [*described, (277, 3, [1])]  # type: ignore[list-item]


def strips(places: list[int], sizes: list[int], rows: int) -> list[Tag]:
    return [(273, 4, places), (278, 4, [rows]), (279, 4, sizes)]


def whole(extra: Sequence[Tag] = (), **options: Any) -> bytes:
    """A TIFF of one strip with further tags."""
    return tiff([*grey(8, 8), *strips([16], [64], 8), *extra], bytes(64), **options)


def segment(code: int, body: bytes) -> bytes:
    return bytes([0xFF, code]) + struct.pack(">H", len(body) + 2) + body


def jpeg(inserted: bytes) -> bytes:
    """A JPEG with something behind its first segment, which takes 18 bytes."""
    data = file(Image.fromarray(colours()), "JPEG")
    return data[:20] + inserted + data[20:]


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(before: bytes = b"", after: bytes = b"") -> bytes:
    """A PNG with something before and behind its pixels."""
    data = file(Image.fromarray(colours()), "PNG")
    return data[:33] + before + data[33:-12] + after + data[-12:]


def gif(inserted: bytes) -> bytes:
    """A GIF with something behind its palette."""
    data = file(Image.new("L", (8, 8), 3), "GIF")
    place = 13 + (3 << (data[10] & 7) + 1)
    return data[:place] + inserted + data[place:]


def bmp(width: int, height: int, runs: bytes) -> bytes:
    """A BMP of run lengths, 8 bits a pixel."""
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, 0, 0, 0, 256, 0)
    return (
        b"BM" + struct.pack("<IHHI", 0, 0, 0, 1078) + head + b"".join(bytes([grey] * 4) for grey in range(256)) + runs
    )


def exif(tag: int, rationals: int) -> bytes:
    return b"Exif\0\0" + tiff([(tag, 5, [6, 1] * rationals)])


def refused(data: bytes, why: str, read: Callable[[bytes], object] = read_header) -> None:
    with pytest.raises(PictureError, match=why):
        read(data)


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
@pytest.mark.parametrize("tag", [273, 279, 324, 325])
def test_a_tiff_of_countless_strips_or_tiles_is_refused_before_it_is_read(order: str, big: bool, tag: int) -> None:
    def striped(count: int) -> bytes:
        tags = [*grey(8, 8), *strips([16], [64], 8)]
        return tiff(
            [each for each in tags if each[0] != tag] + [(tag, 4, [16] * count)], bytes(64), order=order, big=big
        )

    check_file(striped(2), "tiff")
    refused(striped(65_537), "far more strips")


def test_a_bigtiff_with_its_high_bytes_first_is_not_read() -> None:
    assert decode(whole(big=True)).pixels.shape == (8, 8, 3)
    refused(whole(big=True, order=">"), "high bytes first")


def test_strips_that_cover_a_tiff_many_times_are_refused() -> None:
    def halves(count: int) -> bytes:
        size = 1024 * 1024 // 16
        return tiff([*grey(1024, 1024, 1), *strips([16] * count, [size // 8] * count, 512)], bytes(size))

    assert decode(halves(2)).pixels.shape == (1024, 1024, 3)
    refused(halves(20), "strips lie above one another")


def test_strips_that_begin_within_one_another_are_refused() -> None:
    """Pillow would read the first one byte by byte, and copy what it has each time."""

    def rows(step: int) -> bytes:
        return tiff([*grey(8000, 2, 1), *strips([16, 16 + step], [1000, 1000], 1)], bytes(2000))

    assert decode(rows(1000)).pixels.shape == (2, 8000, 3)
    assert decode(rows(0)).pixels.shape == (2, 8000, 3), "rows that are the same"
    refused(rows(1), "strips lie above one another")


def test_tiffs_of_many_rows_and_planes_are_read() -> None:
    assert decode(tiff([*grey(8, 9000), *strips([*range(16, 72016, 8)], [8] * 9000, 1)], bytes(72000))).height == 9000
    tags = [tag for tag in grey(8, 8) if tag[0] not in (258, 262, 277)]
    planes: list[Tag] = [(258, 3, [8] * 4), (262, 3, [2]), (277, 3, [4]), (284, 3, [2]), (338, 3, [2])]
    layers = strips([16 + 64 * layer for layer in range(4)], [64] * 4, 8)
    picture = decode(tiff([*tags, *planes, *layers], bytes([10] * 64 + [20] * 64 + [30] * 64 + [40] * 64)))
    assert picture.pixels[0, 0].tolist() == [10, 20, 30] and picture.alpha is not None and picture.alpha[0, 0] == 40


@pytest.mark.parametrize("order", ["<", ">"])
def test_strips_that_are_together_far_larger_than_the_file_are_refused(order: str) -> None:
    """libtiff turns the bits of as many bytes round as each strip is said to have."""

    def turned(bytes_a_strip: int) -> bytes:
        row = bytes(int(f"{byte:08b}"[::-1], 2) for byte in zlib.compress(bytes(8)))
        places = strips([16] * 70, [bytes_a_strip] * 70, 1)
        return tiff([*grey(8, 70, 8, 8), (266, 3, [2]), *places], row.ljust(1_000_000, b"\0"), order=order)

    assert decode(turned(500_000)).height == 70
    refused(turned(1_000_000), "together far larger than the file")


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_thin_tiff_of_many_high_tiles_is_refused(orientation: int) -> None:
    def tiled(high: int) -> bytes:
        tile = zlib.compress(bytes(16 * high))
        tiles: list[Tag] = [(322, 4, [16]), (323, 4, [high]), (324, 4, [16] * 25), (325, 4, [len(tile)] * 25)]
        return tiff([*grey(400, 1, 8, 8), (274, 3, [orientation]), *tiles], tile)

    assert sorted(decode(tiled(16)).pixels.shape) == [1, 3, 400]
    refused(tiled(65_536), "tiles are far larger")


def test_what_only_libtiff_reads_is_looked_at() -> None:
    """Pillow knows some types of numbers less, and stops at a tag that is not in the file."""
    tile = zlib.compress(bytes(16 * 65_536))

    def tiled(kind: int, further: Sequence[Tag] = ()) -> bytes:
        tiles: list[Tag] = [(322, kind, [16]), (323, kind, [65_536]), (324, 4, [16] * 25), (325, 4, [len(tile)] * 25)]
        return tiff([*grey(400, 1, 8, 8), *tiles, *further], tile)

    refused(tiled(17), "tiles are far larger")
    absent = bytearray(tiled(4, [(300, 3, [0] * 10)]))
    entry = absent.index(struct.pack("<HHI", 300, 3, 10))
    absent[entry + 8 : entry + 12] = b"\xff" * 4
    refused(bytes(absent), "tiles are far larger")
    refused(tiled(4, [(323, 4, [16])]), "two sizes")
    # Of more byte counts than there are strips libtiff takes the first ones.
    counts = bytearray(whole())
    entry = counts.index(struct.pack("<HHI", 279, 4, 1))
    counts[entry + 4 : entry + 8] = b"\xff" * 4
    refused(bytes(counts), "far more strips")


@pytest.mark.parametrize("tag", [258, 277, 282, 338, 34675])
def test_a_tiffs_tags_of_countless_numbers_are_refused_before_they_are_read(tag: int) -> None:
    refused(whole([(tag, 5, [1, 7] * 20_001)]), "far more numbers")


def test_only_tags_of_text_and_profiles_are_long() -> None:
    assert decode(whole([(700, 1, [32] * 30_000)])).pixels.shape == (8, 8, 3)
    refused(whole([(338, 1, [0] * 30_000)]), "far more numbers")


def test_a_tiffs_countless_tags_are_refused_before_they_are_read() -> None:
    assert decode(whole([(1000 + each, 3, [1]) for each in range(900)])).pixels.shape == (8, 8, 3)
    refused(whole([(1000 + each, 3, [1]) for each in range(1000)]), "far more tags")


def test_no_further_directory_of_a_tiff_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow would read every number of them; broken ones are no harm either."""
    read: list[int] = []
    load = TiffImagePlugin.ImageFileDirectory_v2.load
    monkeypatch.setattr(
        TiffImagePlugin.ImageFileDirectory_v2, "load", lambda self, fp: (read.append(fp.tell()), load(self, fp))
    )
    data = whole([(274, 3, [6]), (34853, 4, [16]), (40965, 4, [20])], further=[(33434, 5, [1, 7] * 30_000)])
    assert decode(data).pixels.shape == (8, 8, 3)
    assert set(read) == {80}


def test_a_jpegs_endless_exif_is_refused() -> None:
    """Also behind markers without a length, which hide nothing from Pillow."""
    pieces = segment(0xE1, exif(0x011A, 1)) * 17
    assert worst_quarter(decode(jpeg(pieces[: len(pieces) // 17])).pixels) < 20
    refused(jpeg(pieces), "far more segments")
    refused(jpeg(segment(0xF0, pieces)), "far more segments")


def test_a_jpegs_countless_segments_are_refused() -> None:
    assert worst_quarter(decode(jpeg(segment(0xFE, b"so") * 1500)).pixels) < 20
    refused(jpeg(segment(0xFE, b"so") * 2001), "far more segments")


@pytest.mark.parametrize("data", [jpeg(bytes(110_000)), gif(bytes(110_000)), gif(b"!\xfe" + b"\x01x" * 60_000 + b"\0")])
def test_what_pillow_reads_byte_by_byte_is_not_read_to_its_end(data: bytes) -> None:
    refused(data, "far more pieces")


def test_junk_and_long_comments_are_read() -> None:
    assert worst_quarter(decode(jpeg(bytes(50_000))).pixels) < 20
    assert decode(gif(b"!\xfe" + (b"\xff" + b"x" * 255) * 1000 + b"\0")).width == 8


def test_a_pngs_countless_chunks_are_refused() -> None:
    several = chunk(b"prIv") * 30_001
    assert worst_quarter(decode(png(chunk(b"prIv") * 5000, chunk(b"prIv") * 5000)).pixels) == 0
    refused(png(several), "far more chunks")
    refused(png(b"", several), "far more chunks")
    refused(png(chunk(b"IDAT") * 30_001), "far more chunks")


@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt", b"iTXt"])
def test_a_pngs_many_inflated_chunks_are_refused(kind: bytes) -> None:
    """Text that is broken at its end is inflated, and not counted by Pillow."""
    text = zlib.compress(bytes(1000))[:-1] + b"\0"
    body = b"a\0\1\0\0\0" + text if kind == b"iTXt" else b"a\0\0" + text
    assert worst_quarter(decode(png(chunk(kind, body) * 20)).pixels) == 0
    refused(png(chunk(kind, body) * 101), "far more chunks")


def test_run_lengths_are_read_of_small_pictures_only() -> None:
    """Pillow takes them one by one, in Python."""
    row = b"".join(b"\1" + bytes([each % 256]) for each in range(300)) + b"\0\0"
    assert decode(bmp(300, 300, row * 300)).pixels[-1, :3, 0].tolist() == [0, 1, 2]
    refused(bmp(2001, 2000, b"\0\1"), "only 4 megapixels")
    refused(bmp(8, 8, b"\1\7" * 8 + b"\1\7" * 60_000), "far more pieces", decode)


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_exif_of_countless_numbers_is_not_read(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(Image.Image, "getexif", lambda image: asked.append(image) or {0x0112: 6})
    image = Image.fromarray(colours())
    assert decode(file(image, format, exif=exif(0x0112, 1))).pixels.shape == (40, 24, 3)
    assert len(asked) == 1
    assert decode(file(image, format, exif=exif(0x0112, 20_001))).pixels.shape == (24, 40, 3)
    assert len(asked) == 1
    with pytest.raises(PictureError, match="EXIF file is damaged, or has tags of far more numbers"):
        check_exif(exif(0x0112, 20_001))


@pytest.mark.parametrize("orientation", [1, 6])
def test_an_avifs_exif_is_not_read(orientation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another box says how it is turned."""
    both = b"Exif\0\0" + tiff([(0x0112, 3, [orientation]), (1000, 5, [6, 1] * 30)])
    data = file(Image.fromarray(colours()), "AVIF", exif=both)
    assert b"Exif\0\0" in data
    read: list[bytes] = []
    load = Image.Exif.load
    monkeypatch.setattr(Image.Exif, "load", lambda self, data: (read.append(data), load(self, data)))
    assert decode(data).pixels.shape == ((24, 40, 3) if orientation == 1 else (40, 24, 3))
    assert all(len(each) < 100 for each in read)


def test_exif_as_immense_text_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(Image.Image, "getexif", lambda image: asked.append(image) or {0x0112: 6})
    for length, count in ((1000, 1), (2**20, 1)):
        decode(png(chunk(b"tEXt", b"Raw profile type exif\0" + b"\n" * length)))
        assert len(asked) == count
        decode(png(chunk(b"tEXt", b"Raw profile type exif\0" + b"\n" * (2**20 + 1))))
        assert len(asked) == count
        asked.clear()


def test_files_that_end_anywhere_are_left_to_their_readers() -> None:
    image = Image.fromarray(colours())
    files = {format: file(image, format) for format in ("JPEG", "PNG", "TIFF")}
    for format, data in files.items():
        for end in range(8, len(data)):
            check_file(data[:end], format.lower())
    for end in range(16, 500):
        check_file(whole([(700, 1, [32] * 200)], big=True)[:end], "tiff")


def test_damage_is_found_by_readers_or_said_in_words() -> None:
    """Nothing but PictureError comes out, whatever the bytes are."""
    chance = random.Random(1)
    image = Image.fromarray(colours())
    for format in ("JPEG", "PNG", "TIFF"):
        data = file(image, format)
        for _ in range(300):
            broken = bytearray(data)
            for _ in range(4):
                broken[chance.randrange(2, len(broken))] = chance.choice([0, 1, 0x7F, 0xFF, chance.randrange(256)])
            try:
                check_file(bytes(broken), format.lower())
            except PictureError as error:
                assert "\n" not in str(error)


def test_reads_are_counted() -> None:
    reads = Reads(b"12345678" * 100_000, "GIF")
    for _ in range(100_000):
        assert len(reads.read(1)) == 1
    reads.allow(1)
    assert reads.read(1)
    with pytest.raises(PictureError, match="the GIF file is in far more pieces"):
        reads.read(1)
