"""Uploads that mean harm: damaged, mislabelled, glued together, or small files that claim to be immense."""

import io
import random
import struct
import zlib
from collections.abc import Iterator

from PIL import Image

from tests.service.running import file_of
from tests.toy_faces import ANNA, photo

_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "AVIF")


def corpus(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """At least `count` uploads, each with a word on what it is; the same for the same seed."""
    chance = random.Random(seed)
    yield from _bombs()
    whole = {name: file_of(photo(((48.0, 48.0), 90.0, ANNA), size=(96, 96)), name) for name in _FORMATS}
    for first in _FORMATS:
        for second in _FORMATS:
            yield f"{first} then {second}", whole[first] + whole[second]
            yield f"{first} head on {second}", whole[first][:24] + whole[second][24:]
        for script in (b"<script>alert(1)</script>", b"<?php system($_GET['c']); ?>", b"PK\x03\x04" + b"\0" * 60):
            yield f"{script[:6]!r} then {first}", script + whole[first]
            yield f"{first} then {script[:6]!r}", whole[first] + script
    # Without a face what survives is decoded in full and costs no more than that.
    plain = {name: file_of(photo(size=(96, 96)), name) for name in _FORMATS}
    for _ in range(count):
        name = chance.choice(_FORMATS)
        data = bytearray(plain[name])
        harm = chance.choice([_truncate, _flip, _flip_head, _zero, _repeat, _lengths, _shuffle])
        harm(data, chance)
        yield f"{name} {harm.__name__.strip('_')}", bytes(data)


def _truncate(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def _flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 2, 8, 64])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _flip_head(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 2, 4])):
        data[chance.randrange(8, min(len(data), 120))] = chance.randrange(256)


def _zero(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    data[start : start + chance.randrange(1, 200)] = bytes(chance.randrange(1, 200))


def _repeat(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    data[start:start] = data[start : start + 100] * chance.choice([1, 10, 100])


def _lengths(data: bytearray, chance: random.Random) -> None:
    """Writes an immense or negative number where one may stand."""
    start = chance.randrange(4, max(5, len(data) - 8))
    number = chance.choice([0, 1, 2**31 - 1, 2**32 - 1, 2**31, 0x7FFF])
    data[start : start + 4] = struct.pack(chance.choice("<>") + "I", number)


def _shuffle(data: bytearray, chance: random.Random) -> None:
    tail = list(data[16:])
    chance.shuffle(tail)
    data[16:] = bytes(tail)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png(width: int, height: int, *chunks: bytes, idat: bytes = b"") -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + _chunk(b"IDAT", idat) + _chunk(b"IEND", b"")


def _tiff(width: int, height: int, strip_bytes: int, loop: bool = False) -> bytes:
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 5), (262, 3, 1, 1), (273, 4, 1, 8)]
    tags += [(277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, strip_bytes)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 8 if loop else 0)


def _bombs() -> Iterator[tuple[str, bytes]]:
    zeros = zlib.compress(b"\0" * 60_000_000, 9)
    sizes = ((2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (60_000, 60_000), (0, 0), (0, 5), (8000, 8000))
    for width, height in sizes:
        yield f"PNG of {width}x{height}", _png(width, height, idat=zeros[:1000])
        yield f"TIFF of {width}x{height}", _tiff(width, height, 2**31 - 1)
        gif = b"GIF89a" + struct.pack("<HH", width & 0xFFFF, height & 0xFFFF) + b"\xf0\0\0" + b"\0" * 6
        yield f"GIF of {width & 0xFFFF}x{height & 0xFFFF}", gif + b",\0\0\0\0\xff\xff\xff\xff\0\x08" + b"\xff\x9e" * 500
    yield "PNG that inflates past its size", _png(4, 4, idat=zeros)
    yield "PNG with an immense text", _png(4, 4, _chunk(b"zTXt", b"a\0\0" + zeros), idat=zlib.compress(b"\0" * 52))
    yield "PNG with an immense profile", _png(4, 4, _chunk(b"iCCP", b"a\0\0" + zeros), idat=zlib.compress(b"\0" * 52))
    yield "PNG with 10,000 chunks", _png(4, 4, *[_chunk(b"tEXt", b"a\0b")] * 10_000, idat=zlib.compress(b"\0" * 52))
    yield "TIFF whose directories go in a circle", _tiff(10, 10, 100, loop=True)
    canvas = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + b"\xff\xff\xff" * 2
    yield "WebP with an immense canvas", b"RIFF" + struct.pack("<I", 4 + len(canvas)) + b"WEBP" + canvas
    black = io.BytesIO()
    Image.new("L", (7900, 7900)).save(black, "PNG")
    yield "62 megapixels of black in a few kB", black.getvalue()
    frames = io.BytesIO()
    pictures = [Image.new("L", (64, 64), level) for level in range(200)]
    pictures[0].save(frames, "GIF", save_all=True, append_images=pictures[1:])
    yield "GIF of 200 frames", frames.getvalue()
    for odd in (b"", b"\0", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", b"BM", b"II*\0", b"\0\0\0\x20ftypavif", b"GIF89a"):
        yield f"only {odd!r}", odd
