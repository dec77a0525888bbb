import io
import struct
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.avif_frame import frame_sizes

#: Red, 96x80, by a sequence header that says 16x16: the frame has a size of its own, and Pillow decodes it.
LARGER_THAN_ITS_SEQUENCE = bytes.fromhex(
    "12000a1000000007f800780079b5f22021a0d08032261200017c013c86000410"
    "41080012b44dab79608b3076b790520a27405ec489c521ecbf949c80"
)
#: What a sequence header may have, and a frame's header by it.
FORMS = ("timing", "uneven", "model", "display", "tier", "points", "ids", "order", "plain", "screen", "motion")
PROPERTIES = (
    struct.pack(">I4s4xII", 20, b"ispe", 64, 64)
    + struct.pack(">I4s4xII", 20, b"ispe", 128, 128)
    + struct.pack(">I4s4x4s", 16, b"pixi", b"\3\10\10\10")
)


def largest_frame(data: bytes) -> int:
    return max(frame_sizes(data))


def encoded(width: int, height: int, mode: str = "RGB", **options: object) -> bytes:
    """Noise as an AVIF."""
    values = np.random.default_rng(0).integers(0, 256, (height, width, len(mode)), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(values.squeeze(2) if mode == "L" else values).save(out, "AVIF", speed=10, **options)
    return out.getvalue()


def moving(width: int, height: int, brand: bytes) -> bytes:
    """An AVIF with an animation, and a major brand of ours."""
    out = io.BytesIO()
    first, second = (Image.new("RGB", (width, height), colour) for colour in ("red", "blue"))
    first.save(out, "AVIF", save_all=True, append_images=[second], speed=10)
    return out.getvalue().replace(b"avis", brand, 1)


def av1(width: int, height: int) -> bytes:
    """The AV1 item of a picture."""
    data = encoded(width, height)
    return data[data.index(b"mdat") + 4 :]


def with_ispe(data: bytes, width: int, height: int) -> bytes:
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", width, height) + data[at + 8 :]


def pillow(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def box(kind: bytes, *content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, content)), kind) + b"".join(content)


def full_box(kind: bytes, version: int, *content: bytes) -> bytes:
    return box(kind, bytes([version, 0, 0, 0]), *content)


def avif(
    *items: bytes,
    version: int = 0,
    method: int = 0,
    pieces: int = 1,
    grid: bool = False,
    configuration: bytes = b"",
    index_bytes: int = 0,
    entries: int = 1,
) -> bytes:
    """A file of 64x64 pixels by its ispe; with `grid` the first item tells of which grid the others are the cells."""
    ftyp = box(b"ftyp", b"avif", bytes(4), b"avifmif1miaf")
    place = 0 if method else len(ftyp) + 8
    number = ">I" if version == 2 else ">H"
    iloc, iinf, ipma, ids = b"", b"", b"", range(1, 1 + len(items))
    for id, content in zip(ids, items, strict=True):
        step, is_grid = -(-len(content) // pieces), grid and id == 1
        cuts = [(place + at, len(content[at : at + step])) for at in range(0, len(content), step)]
        iloc += struct.pack(number, id) + struct.pack(">H", method) * (version > 0)
        iloc += struct.pack(">HH", 0, len(cuts)) + b"".join(struct.pack(">II", *cut) for cut in cuts)
        iinf += full_box(b"infe", 2, struct.pack(">HH4sx", id, 0, b"grid" if is_grid else b"av01"))
        ipma += struct.pack(">H4B", id, 3, 2 if is_grid else 1, 3, 0x84)
        place += len(content)
    meta = [
        full_box(b"hdlr", 0, bytes(4), b"pict", bytes(13)),
        full_box(b"pitm", 0, b"\0\1"),
        full_box(b"iinf", 0, struct.pack(">H", len(items)), iinf),
        full_box(
            b"iloc", version, bytes([0x44, index_bytes]), struct.pack(number, len(items) * entries), iloc * entries
        ),
        box(
            b"iprp",
            box(b"ipco", PROPERTIES, box(b"av1C", b"\x81\0\x0c\0", configuration)),
            full_box(b"ipma", 0, struct.pack(">I", len(items)), ipma),
        ),
    ]
    if grid:
        cells = ids[1:]
        meta.append(full_box(b"iref", 0, box(b"dimg", struct.pack(f">HH{len(cells)}H", 1, len(cells), *cells))))
    if method:
        return ftyp + full_box(b"meta", 0, *meta, box(b"idat", *items))
    return ftyp + box(b"mdat", *items) + full_box(b"meta", 0, *meta)


def bits(value: int, count: int) -> str:
    return f"{value:0{count}b}"


def obu(kind: int, *fields: str, sized: bool = True, extended: bool = False) -> bytes:
    text = "".join(fields) + "1"
    body = int(text.ljust(-len(text) // 8 * -8, "0"), 2).to_bytes(-(-len(text) // 8))
    header = bytes([kind << 3 | 4 * extended | 2 * sized]) + b"\0" * extended
    return header + (bytes([len(body)]) if sized else b"") + body


def sequence(width: int, height: int, sized: bool = True, extended: bool = False, **form: bool) -> bytes:
    """A sequence header of one of the forms, with 16 bits a side."""
    has = dict.fromkeys(FORMS, False) | form
    fields = ["000", "10", "1" if has["timing"] else "0"]  # of a still picture, its header not reduced
    if has["timing"]:
        fields += [bits(1, 64), "0" if has["uneven"] else "100101", "1" if has["model"] else "0"]
        fields += [bits(6, 5), bits(1, 32), bits(9, 5), bits(12, 5)] if has["model"] else []
    points = 3 if has["points"] else 1
    fields += ["1" if has["display"] else "0", bits(points - 1, 5)]
    for _ in range(points):
        fields += [bits(0, 12), bits(8, 5) + "1" if has["tier"] else bits(7, 5)]
        fields += ["1", bits(3, 7), bits(4, 7), "0"] if has["timing"] and has["model"] else []
        fields += ["1", bits(2, 4)] if has["display"] else []
    fields += [bits(15, 4), bits(15, 4), bits(width - 1, 16), bits(height - 1, 16)]
    fields += ["1", bits(5, 4), bits(3, 3)] if has["ids"] else ["0"]
    fields += ["0000000", "111" if has["order"] else "0", "00" if has["plain"] else "1" if has["screen"] else "01"]
    fields += [] if has["plain"] else ["1" if has["motion"] else "01"]
    return obu(1, *fields, bits(0, 20), sized=sized, extended=extended)


def frame(own_size: bool, hidden: bool, **form: bool) -> bytes:
    """The header of a key frame by a sequence header of the same form."""
    has = dict.fromkeys(FORMS, False) | form
    fields = ["000", "010" if hidden else "1"]
    fields += [bits(5, 13)] if has["timing"] and has["model"] and has["uneven"] and not hidden else []
    fields += ["0", "1" if has["screen"] and not has["plain"] else ""]
    fields += ["0" if has["motion"] and not has["plain"] else "", bits(3, 11) if has["ids"] else ""]
    return obu(3, *fields, "1" if own_size else "0", bits(0, 50))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (16, 16), (37, 91), (640, 480), (2049, 3)])
@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {}),
        ("RGB", {"subsampling": "4:4:4"}),
        ("RGB", {"subsampling": "4:2:2"}),
        ("RGB", {"quality": 100}),
        ("L", {}),
        ("RGBA", {}),
        ("RGBA", {"quality": 100, "subsampling": "4:4:4"}),
    ],
)
def test_the_frames_of_an_honest_file_are_as_large_as_the_picture(
    width: int, height: int, mode: str, options: dict[str, object]
) -> None:
    data = encoded(width, height, mode, **options)
    assert largest_frame(data) == width * height
    assert frame_sizes(data) == [width * height] * (2 if mode == "RGBA" else 1)


def test_the_size_that_the_file_states_is_not_believed() -> None:
    data = with_ispe(encoded(400, 300), 64, 64)
    assert pillow(data).size == (64, 64)
    assert largest_frame(data) == 400 * 300


def test_a_large_alpha_is_found() -> None:
    data = avif(av1(64, 64), av1(200, 100))
    assert frame_sizes(data) == [64 * 64, 200 * 100]
    assert largest_frame(data) == 200 * 100


def test_a_frame_with_a_size_of_its_own_counts_as_the_largest_that_it_can_say() -> None:
    data = avif(LARGER_THAN_ITS_SEQUENCE)
    red, green, blue = pillow(data).getpixel((32, 32))
    assert red > 240 and green < 10 and blue < 10
    assert largest_frame(data) == 65_536 * 65_536


@pytest.mark.parametrize("version", [0, 1, 2])
@pytest.mark.parametrize("method", [0, 1])
@pytest.mark.parametrize("pieces", [1, 3])
def test_items_are_found_where_pillow_finds_them(version: int, method: int, pieces: int) -> None:
    data = avif(av1(64, 48), version=version, method=method if version else 0, pieces=pieces)
    assert pillow(data).size == (64, 64)
    assert largest_frame(data) == 64 * 48


def test_cells_of_a_grid_are_found_each_and_shared_ones_as_often() -> None:
    cells = [av1(64, 64), av1(64, 64), av1(64, 64), av1(80, 80)]
    data = avif(bytes([0, 0, 1, 1]) + struct.pack(">HH", 128, 128), *cells, grid=True)
    assert pillow(data).size == (128, 128)
    assert frame_sizes(data) == [64 * 64] * 3 + [80 * 80]
    iloc = data.index(b"iloc") + 4 + 8
    second, third = (data[at : at + 8] for at in (iloc + 20, iloc + 34))
    assert second != third
    assert frame_sizes(data.replace(third, second)) == [64 * 64] * 3 + [80 * 80]


def test_wide_boxes_and_boxes_to_the_end_are_followed() -> None:
    small = avif(av1(64, 64))
    at = small.index(b"meta") - 4
    meta = small[at + 8 :]
    assert largest_frame(small[:at] + struct.pack(">I4s", 0, b"meta") + meta) == 64 * 64
    assert largest_frame(small[:at] + struct.pack(">I4sQ", 1, b"meta", 16 + len(meta)) + meta) == 64 * 64


def test_the_largest_of_several_sequence_headers_counts() -> None:
    item = av1(64, 64)
    assert largest_frame(avif(item + sequence(300, 200))) == 300 * 200
    assert largest_frame(avif(item + sequence(300, 200) + sequence(50, 50))) == 300 * 200
    assert largest_frame(avif(item + sequence(300, 200, extended=True))) == 300 * 200
    assert largest_frame(avif(item + sequence(300, 200, sized=False))) == 300 * 200
    assert largest_frame(avif(item + sequence(300, 200, sized=False, extended=True))) == 300 * 200
    assert frame_sizes(avif(item, configuration=sequence(300, 200))) == [64 * 64, 300 * 200]
    assert frame_sizes(avif(item, configuration=sequence(64, 64))) == [64 * 64]


@given(
    form=st.fixed_dictionaries({name: st.booleans() for name in FORMS}),
    width=st.integers(1, 65_536),
    height=st.integers(1, 65_535),
    own_size=st.booleans(),
    hidden=st.booleans(),
)
def test_headers_of_every_form_are_read(
    form: dict[str, bool], width: int, height: int, own_size: bool, hidden: bool
) -> None:
    data = avif(sequence(width, height, **form) + frame(own_size, hidden, **form))
    assert largest_frame(data) == (65_536 * 65_536 if own_size else width * height)


def test_of_an_animation_only_the_picture_is_read() -> None:
    assert largest_frame(moving(80, 60, b"avif")) == 80 * 60
    for brand in (b"avis", b"mif1"):
        with pytest.raises(ValueError, match="tracks"):
            largest_frame(moving(80, 60, brand))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file + file[file.index(b"meta") - 4 :], "one meta box, and has 2"),
        (lambda file: file.replace(b"meta", b"free"), "one meta box, and has 0"),
        (lambda file: file.replace(b"iloc", b"free"), "one iloc box, and has 0"),
        (lambda file: file.replace(b"av01", b"hvc1"), "no AV1 sequence header"),
        (lambda file: file + b"\0\0\0\7free", "longer than what holds it"),
        (lambda file: file + b"\0\0\0\x10free", "longer than what holds it"),
        (lambda file: file + b"\0\0\0\1free" + b"\xff" * 8, "longer than what holds it"),
        (lambda file: file + b"\0", "ends within a field"),
    ],
)
def test_a_broken_structure_is_an_error(change: Callable[[bytes], bytes], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        largest_frame(change(avif(av1(16, 16))))


def test_what_decoders_could_take_in_two_ways_is_an_error() -> None:
    item = av1(16, 16)
    for options in ({"version": 1, "index_bytes": 4}, {"version": 1, "method": 2}, {"version": 3}, {"entries": 2}):
        with pytest.raises(ValueError, match="iloc"):
            largest_frame(avif(item, **options))
    with pytest.raises(ValueError, match="before its sequence header"):
        largest_frame(avif(sequence(16, 16), frame(False, False)))


def test_items_that_are_empty_or_beyond_the_file_are_errors() -> None:
    data = avif(av1(16, 16))
    at = data.index(b"iloc") + 4 + 18
    for length in (0, len(data)):
        with pytest.raises(ValueError, match="empty, or ends beyond"):
            largest_frame(data[:at] + struct.pack(">I", length) + data[at + 4 :])
    with pytest.raises(ValueError, match="empty, or ends beyond"):
        largest_frame(data[: at - 4] + b"\xff\xff\xff\xff" + data[at:])


def test_what_would_keep_a_reader_or_a_decoder_for_long_is_an_error() -> None:
    header, still = sequence(64, 64), frame(False, False)
    assert largest_frame(avif(header + still * 8)) == 64 * 64
    with pytest.raises(ValueError, match="too many frames"):
        largest_frame(avif(header + still * 9))
    with pytest.raises(ValueError, match="far more"):
        largest_frame(avif(header + b"\x7a\0" * 500_000))
    with pytest.raises(ValueError, match="far more"):
        largest_frame(avif(header) + box(b"free") * 500_000)
    data = avif(b"\0" * 99, b"\1" * 99)
    with pytest.raises(ValueError, match="overlap"):
        largest_frame(data.replace(struct.pack(">I", 99), struct.pack(">I", len(data))))


def test_a_file_that_is_cut_short_is_an_error() -> None:
    data = encoded(16, 16, "RGBA")
    for length in range(len(data)):
        with pytest.raises(ValueError):
            largest_frame(data[:length])


@pytest.mark.parametrize("data", [encoded(16, 16, "RGBA"), moving(16, 16, b"avif"), avif(LARGER_THAN_ITS_SEQUENCE)])
def test_no_changed_byte_brings_another_error(data: bytes) -> None:
    for at, byte in enumerate(data):
        for value in {0, 1, 0x7F, 0xFF, byte ^ 1, byte ^ 0x80} - {byte}:
            with suppress(ValueError):
                assert largest_frame(data[:at] + bytes([value]) + data[at + 1 :]) > 0


@settings(max_examples=300)
@given(st.binary(max_size=400), st.sampled_from([b"", b"\0\0\0\x10ftypavif\0\0\0\0", avif(b"\0")]))
def test_noise_is_an_error(noise: bytes, start: bytes) -> None:
    with pytest.raises(ValueError):
        largest_frame(start + noise)
