import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile

from models.errors import PictureError
from models.picture import Picture, PictureLimits, decode, encode
from tests.pictures import colours, file, worst_quarter

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds almost no pixels: a bomb for who decodes before looking."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(1000))) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("format", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("GIF", {}, 0),
        ("JPEG", {"quality": 95, "subsampling": 0}, 6),
        ("AVIF", {"quality": 95, "subsampling": "4:4:4"}, 8),
    ],
)
def test_every_format_is_read(format: str, options: dict[str, object], tolerance: int) -> None:
    image = Image.fromarray(colours())
    picture = decode(file(image, format, **options))
    assert picture.pixels.dtype == np.uint8 and picture.pixels.shape == (24, 40, 3)
    assert picture.format == format.lower() and picture.alpha is None
    assert (picture.width, picture.height) == (40, 24)
    assert worst_quarter(picture.pixels) <= tolerance


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(format: str, orientation: int) -> None:
    upright = Image.fromarray(colours())
    turns = [None, None, 0, 3, 1, 5, 2, 6, 4]  # Image.Transpose that stores the upright picture as EXIF 2..8 says
    turn = turns[orientation]
    stored = upright if turn is None else upright.transpose(Image.Transpose(turn))
    if orientation == 6:
        stored = upright.transpose(Image.Transpose.ROTATE_90)
    if orientation == 8:
        stored = upright.transpose(Image.Transpose.ROTATE_270)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode(file(stored, format, exif=exif.tobytes()))
    assert picture.pixels.shape == (24, 40, 3)
    assert worst_quarter(picture.pixels) < 20


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_is_ignored() -> None:
    data = file(Image.fromarray(colours()), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xffgarbage")
    assert decode(data).pixels.shape == (24, 40, 3)


def test_alpha_is_kept_apart() -> None:
    image = Image.fromarray(colours())
    alpha = np.tile(np.linspace(0, 255, 40).astype(np.uint8), (24, 1))
    image.putalpha(Image.fromarray(alpha))
    for format in ("PNG", "TIFF"):
        picture = decode(file(image, format))
        assert picture.alpha is not None
        assert np.array_equal(picture.alpha, alpha)
        assert np.array_equal(picture.pixels, colours())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_alpha_turns_with_the_picture(orientation: int) -> None:
    uneven = np.arange(24 * 40).reshape(24, 40) % 251  # alpha and every colour alike
    image = Image.fromarray(np.repeat(uneven.astype(np.uint8)[:, :, None], 4, 2))
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode(file(image, "PNG", exif=exif.tobytes()))
    assert picture.alpha is not None and np.array_equal(picture.alpha, picture.pixels[:, :, 0])


def test_a_transparent_colour_becomes_alpha() -> None:
    palette = decode(file(Image.fromarray(RAMP).convert("P"), "PNG", transparency=7))
    grey = decode(file(Image.fromarray(RAMP), "PNG", transparency=7))
    for picture in (palette, grey):
        assert picture.alpha is not None
        assert (picture.alpha == 0).sum() == 1 and picture.alpha.ravel()[7] == 0


@pytest.mark.parametrize("mode", ["L", "P", "LA"])
def test_grey_and_palette(mode: str) -> None:
    picture = decode(file(Image.fromarray(RAMP).convert(mode), "PNG"))
    assert np.array_equal(picture.pixels, np.repeat(RAMP[:, :, None], 3, 2))
    assert (picture.alpha is not None) == (mode == "LA")


def test_one_bit() -> None:
    picture = decode(file(Image.fromarray(RAMP > 127), "PNG"))
    assert np.array_equal(picture.pixels[:, :, 0], np.where(RAMP > 127, 255, 0))


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(format: str) -> None:
    values = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    picture = decode(file(Image.fromarray(values), format))
    assert np.array_equal(picture.pixels[:, :, 1], RAMP)


def test_16_bit_colour_is_scaled() -> None:
    rows = b"".join(b"\0" + np.repeat(row.astype(">u2") * 257, 3).tobytes() for row in RAMP)
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    assert np.array_equal(decode(data).pixels[:, :, 2], RAMP)


def test_float_pixels_are_refused() -> None:
    with pytest.raises(PictureError, match="32-bit pixels"):
        decode(file(Image.fromarray(RAMP.astype(np.float32)), "TIFF"))


def test_cmyk_jpeg() -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red = decode(file(image, "JPEG", quality=95)).pixels[8, 8]
    assert red[0] > 200 and red[1] < 60 and red[2] < 60


def test_icc_profile_is_converted_to_srgb() -> None:
    grey = Image.new("L", (8, 8), 128)
    linear = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = decode(file(Image.fromarray(colours()), "PNG", icc_profile=linear))
    assert np.array_equal(picture.pixels, colours()), "an sRGB profile changes nothing"
    xyz = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    assert decode(file(grey, "PNG", icc_profile=xyz)).pixels[0, 0, 0] == 128, (
        "a profile of another colour space is ignored"
    )


def swapped_profile() -> bytes:
    """An sRGB profile whose red and blue primaries have changed places, under another name."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", profile[128:132])[0]
    entries = {bytes(profile[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, blue = entries[b"rXYZ"], entries[b"bXYZ"]
    profile[red + 4 : red + 12], profile[blue + 4 : blue + 12] = (
        profile[blue + 4 : blue + 12],
        profile[red + 4 : red + 12],
    )
    offset, length = struct.unpack(">II", profile[entries[b"desc"] + 4 : entries[b"desc"] + 12])
    text = bytes(profile[offset : offset + length])
    profile[offset : offset + length] = text.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))
    return bytes(profile)


def test_another_profile_moves_the_colours() -> None:
    picture = decode(file(Image.fromarray(colours()), "PNG", icc_profile=swapped_profile()))
    red_in_swapped, blue_in_swapped = picture.pixels[0, 0], picture.pixels[-1, 0]
    assert red_in_swapped[2] > 180 and red_in_swapped[0] < 60
    assert blue_in_swapped[0] > 180 and blue_in_swapped[2] < 60


def test_a_broken_profile_is_ignored() -> None:
    for profile in (b"not a profile", swapped_profile()[:200]):
        picture = decode(file(Image.fromarray(colours()), "PNG", icc_profile=profile))
        assert np.array_equal(picture.pixels, colours())


def test_gif_gives_its_first_frame() -> None:
    first, second = Image.fromarray(colours()), Image.new("RGB", (40, 24), (0, 0, 0))
    picture = decode(file(first, "GIF", save_all=True, append_images=[second]))
    assert np.array_equal(picture.pixels, colours())


def test_one_pixel_is_a_picture() -> None:
    assert decode(file(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG")).pixels.tolist() == [[[1, 2, 3]]]


def test_an_empty_file() -> None:
    with pytest.raises(PictureError, match="empty"):
        decode(b"")


@pytest.mark.parametrize("data", [b"hello", b"%PDF-1.7 ...", b"<svg xmlns='http://www.w3.org/2000/svg'/>", bytes(4096)])
def test_not_a_picture(data: bytes) -> None:
    with pytest.raises(PictureError, match="not a picture in a known format"):
        decode(data)


def test_formats_that_are_not_allowed_are_refused() -> None:
    with pytest.raises(PictureError, match="known format"):
        decode(file(Image.fromarray(colours()), "PPM"))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF"])
def test_a_truncated_file_is_one_clear_line(format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = file(Image.fromarray(noise), format)
    for length in (12, len(data) // 3, len(data) * 3 // 4):
        with pytest.raises(PictureError) as caught:
            decode(data[:length])
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 150


def test_the_size_is_checked_before_decoding() -> None:
    with pytest.raises(PictureError, match=r"30000x30000 pixels \(900\.0 megapixels\): at most 64 megapixels"):
        decode(png_of_size(30_000, 30_000))
    with pytest.raises(PictureError, match="30000x4000"):
        decode(png_of_size(30_000, 4_000))
    with pytest.raises(PictureError, match=r"at most 0\.0001 megapixels"):
        decode(file(Image.fromarray(colours()), "PNG"), PictureLimits(pixels=100))


def test_the_byte_limit() -> None:
    with pytest.raises(PictureError, match=r"2\.0 MiB: at most 1 MiB"):
        decode(bytes(2 * 2**20), PictureLimits(bytes=2**20))


def test_a_large_picture_under_a_raised_limit_warns_nobody() -> None:
    """Pillow's own limit is 89 megapixels; ours alone decides, and Pillow's settings stay as they were."""
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    data = file(Image.new("1", (10_000, 9_000)), "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(data, PictureLimits(pixels=100_000_000)).width == 10_000
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


@settings(max_examples=150, deadline=None)
@given(
    format=st.sampled_from(["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF"]),
    damage=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=20),
)
def test_damaged_bytes_give_a_picture_or_a_picture_error(format: str, damage: list[tuple[int, int]]) -> None:
    data = bytearray(DAMAGEABLE[format])
    for position, value in damage:
        data[position % len(data)] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            picture = decode(bytes(data), PictureLimits(pixels=1_000_000))
        except PictureError:
            return
    assert isinstance(picture, Picture) and picture.pixels.shape[2] == 3


DAMAGEABLE = {
    name: file(Image.fromarray(colours()), name) for name in ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")
}


@pytest.mark.parametrize("format", ["png", "webp", "jpeg"])
def test_encode_and_decode(format: str) -> None:
    data = encode(colours(), None, format, quality=95)  # type: ignore[arg-type]
    picture = decode(data)
    assert picture.format == format
    assert worst_quarter(picture.pixels) <= (0 if format == "png" else 8)


def test_encode_keeps_alpha_where_the_format_can() -> None:
    alpha = np.zeros((24, 40), np.uint8)
    alpha[:, 20:] = 255
    for format in ("png", "webp"):
        again = decode(encode(colours(), alpha, format))  # type: ignore[arg-type]
        assert again.alpha is not None and np.array_equal(again.alpha, alpha)
    flat = decode(encode(colours(), alpha, "jpeg")).pixels
    assert flat[4, 4].min() > 245, "transparent parts lie on white"
    assert np.abs(flat[4, 36].astype(int) - colours()[4, 36]).max() < 10


def test_encode_says_which_size_a_format_cannot_hold() -> None:
    with pytest.raises(PictureError, match="webp file holds at most 16383"):
        encode(np.zeros((1, 20_000, 3), np.uint8), None, "webp")


@pytest.mark.parametrize("size, factor", [((2559, 800), 1), ((2560, 801), 2), ((1600, 5200), 4), ((10_300, 1), 1)])
def test_a_jpeg_is_read_as_small_as_it_may_be(size: tuple[int, int], factor: int) -> None:
    width, height = size
    steps = np.linspace(0, 255, max(size)).astype(np.uint8)
    grey = np.broadcast_to(steps if width > height else steps[:, None], (height, width))
    data = encode(np.stack([grey] * 3, axis=2), None, "jpeg")
    picture = decode(data, least_side=1280)
    small = (-(-width // factor), -(-height // factor))
    assert (picture.reduced, picture.width, picture.height) == (factor, *small)
    if min(small) > 1:
        expected = Image.fromarray(grey).resize(small, Image.Resampling.BOX)
        assert np.abs(picture.pixels[:, :, 0].astype(float) - np.asarray(expected)).max() <= 3
    assert decode(data).reduced == 1


def test_only_a_jpeg_is_reduced_and_it_is_upright() -> None:
    wide = Image.new("RGB", (3000, 1000))
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    wide.save(out, "JPEG", exif=exif)
    picture = decode(out.getvalue(), least_side=1280)
    assert (picture.reduced, picture.width, picture.height) == (2, 500, 1500)
    assert decode(encode(np.asarray(wide), None, "png"), least_side=1280).reduced == 1
