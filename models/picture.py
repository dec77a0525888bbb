"""Reading pictures that strangers send, and writing them back: bytes in, sRGB pixels out, and the other way round."""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)

from models.choices import PictureFormat
from models.errors import PictureError
from models.geometry import Pixels, bands, enlargement, warp
from models.picture_effort import (
    Reads,
    check_exif,
    check_file,
    check_image,
    forget_directories,
    tiff_number,
    without_exif,
)
from models.restoration_mark import says_generated

#: Pixels a side that a format can hold.
LONGEST_SIDE: dict[PictureFormat, int] = {"png": 2**31 - 1, "jpeg": 65_535, "webp": 16_383}


@dataclass(frozen=True)
class PictureLimits:
    """The largest picture that is decoded: `bytes` of the file, `pixels` as width x height."""

    bytes: int = 64 * 2**20
    pixels: int = 64_000_000


@dataclass(frozen=True)
class Picture:
    """An upright picture: `pixels` `[H, W, 3]` in sRGB, `alpha` `[H, W]` (255 opaque) or None, the file's `format`;
    `first_of_several`: the file holds more of them, pages or frames; `generated`: it says that a trained model made it
    or part of it; `reduced`: it was read so many times smaller than it is."""

    pixels: Pixels
    alpha: Pixels | None = None
    format: str = "png"
    first_of_several: bool = False
    generated: bool = False
    reduced: int = 1

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    def enlarged(self, factor: int) -> "Picture":
        """The picture with `factor` times as many pixels a side, bicubic."""
        if factor == 1:
            return self
        size, matrix = (self.width * factor, self.height * factor), enlargement(factor)
        alpha = None if self.alpha is None else warp(self.alpha, matrix, size)
        return replace(self, pixels=warp(self.pixels, matrix, size), alpha=alpha)


@dataclass(frozen=True)
class _Format:
    name: str
    label: str
    begins: Callable[[bytes], bool]
    reader: Callable[[io.BytesIO], ImageFile.ImageFile]


# The readers are called directly: Image.open would warn or fail by Pillow's process-wide pixel limit instead of ours.
_FORMATS = [
    _Format("jpeg", "JPEG", lambda b: b.startswith(b"\xff\xd8\xff"), JpegImagePlugin.JpegImageFile),
    _Format("png", "PNG", lambda b: b.startswith(b"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile),
    _Format("webp", "WebP", lambda b: b[:4] == b"RIFF" and b[8:12] == b"WEBP", WebPImagePlugin.WebPImageFile),
    _Format(
        "tiff",
        "TIFF",
        lambda b: b[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        TiffImagePlugin.TiffImageFile,
    ),
    _Format("bmp", "BMP", lambda b: b.startswith(b"BM"), BmpImagePlugin.BmpImageFile),
    _Format("gif", "GIF", lambda b: b.startswith((b"GIF87a", b"GIF89a")), GifImagePlugin.GifImageFile),
]
if features.check("avif"):
    _FORMATS.append(
        _Format(
            "avif",
            "AVIF",
            lambda b: b[4:8] == b"ftyp" and b[8:12] in (b"avif", b"avis", b"mif1", b"msf1"),
            AvifImagePlugin.AvifImageFile,
        )
    )

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112
#: EXIF as hexadecimal text of a PNG; where it is compressed, Pillow inflates no more.
_LONGEST_EXIF_TEXT = 2**20
#: TIFF's tags.
_BITS, _PHOTOMETRIC = 258, 262
#: The keyword of XMP in a PNG's text.
_PNG_XMP = "XML:com.adobe.xmp"
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


class UnknownFormatError(PictureError):
    """A file that is no picture in a format that is read."""


class PictureTooLargeError(PictureError):
    """A picture over the limits."""


@dataclass(frozen=True)
class Header:
    """What a file's header says: its format, and its size in pixels before any rotation."""

    format: str
    width: int
    height: int


def read_header(data: bytes, limits: PictureLimits | None = None) -> Header:
    """Reads format and size without decoding a pixel.

    Raises:
        UnknownFormatError: not a picture in a known format.
        PictureTooLargeError: over the limits.
        PictureError: the header is damaged.
    """
    kind, image = _open(data, limits or PictureLimits())
    return Header(kind.name, *image.size)


def check_enlarged(width: int, height: int, factor: int, limits: PictureLimits | None = None) -> None:
    """Raises PictureTooLargeError where a picture has too many pixels to be given back `factor` times as large."""
    most = (limits or PictureLimits()).pixels
    if (pixels := width * height * factor**2) > most:
        raise PictureTooLargeError(
            f"enlarged {factor} times the picture would have {pixels / 1e6:.1f} megapixels: "
            f"at most {most / 1e6:g} are made"
        )


def check_side(format: PictureFormat, side: int) -> None:
    """Raises PictureTooLargeError where a format cannot hold a picture of so many pixels a side."""
    longest = LONGEST_SIDE[format]
    if side > longest:
        raise PictureTooLargeError(f"a {format} file holds at most {longest} pixels a side, this one would have {side}")


def decode(data: bytes, limits: PictureLimits | None = None, least_side: int | None = None) -> Picture:
    """Reads a JPEG, PNG, WebP, TIFF, BMP, AVIF or GIF (its first frame).

    Format and size are checked in the header before a pixel is decoded. EXIF orientation is applied, an ICC profile is
    converted to sRGB (a broken one is taken for sRGB), 16-bit grey is scaled to 8. Where `least_side` is given, a JPEG
    is read 2, 4 or 8 times smaller while its long side keeps so many pixels: of its coefficients the finest are left
    out, which takes about a third of the time and a quarter of the memory, or less.

    Raises:
        PictureError: not such a file (UnknownFormatError), damaged, or over the limits (PictureTooLargeError).
    """
    kind, image = _open(data, limits or PictureLimits())
    try:
        reduced = _reduce(image, least_side) if kind.name == "jpeg" and least_side else 1
        forget_directories(image)
        several = bool(getattr(image, "is_animated", False))
        image.load()
    except PictureError:
        raise
    except Exception as error:
        raise PictureError(f"the {kind.label} file is truncated or damaged: its pixels cannot be decoded") from error
    try:
        picture, generated = _to_picture(image, kind), says_generated(image.info)
        return replace(picture, first_of_several=several, generated=generated, reduced=reduced)
    except (PictureError, MemoryError):
        raise
    except Exception as error:
        raise PictureError(f"the {kind.label} file is damaged: its pixels mean nothing") from error


def _reduce(image: ImageFile.ImageFile, least_side: int) -> int:
    """Has a JPEG read smaller, and tells by how much."""
    width, height = image.size
    factor = next((each for each in (8, 4, 2) if max(width, height) >= each * least_side), 1)
    image.draft(None, (max(1, width // factor), max(1, height // factor)))
    return round(max(width, height) / max(image.size))


def _open(data: bytes, limits: PictureLimits) -> tuple[_Format, ImageFile.ImageFile]:
    kind = _recognise(data, limits)
    check_file(data, kind.name)
    file = Reads(without_exif(data, kind.name), kind.label)
    # Any exception may come out of a decoder that was fed hostile bytes; to the caller all mean the same.
    try:
        image = kind.reader(file)
    except PictureError:
        raise
    except Image.DecompressionBombError as error:  # WebP checks Pillow's own limit while it reads the header
        raise PictureTooLargeError(
            f"the picture is far over the limit of {limits.pixels / 1e6:g} megapixels"
        ) from error
    except Exception as error:
        raise PictureError(f"the {kind.label} file is damaged: its header cannot be read") from error
    width, height = image.size
    if width < 1 or height < 1:
        raise PictureError(f"the {kind.label} file is damaged: it claims {width}x{height} pixels")
    if width * height > limits.pixels:
        raise PictureTooLargeError(
            f"the picture has {width}x{height} pixels ({width * height / 1e6:.1f} megapixels): "
            f"at most {limits.pixels / 1e6:g} megapixels are accepted"
        )
    check_image(data, file, image, kind.name)
    return kind, image


def encode(
    pixels: Pixels, alpha: Pixels | None, format: PictureFormat, quality: int = 95, xmp: bytes | None = None
) -> bytes:
    """Writes sRGB pixels `[H, W, 3]` with alpha `[H, W]`; JPEG has none, so there the picture is laid on white.

    `quality` 1..100 is for jpeg and webp; png is lossless at compression level 1 (three times as fast as 6). `xmp` is
    the file's metadata, a packet in UTF-8.
    """
    height, width = pixels.shape[:2]
    check_side(format, max(width, height))
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if alpha is not None:
        mask = Image.fromarray(np.ascontiguousarray(alpha))
        if format == "jpeg":
            image = Image.composite(image, Image.new("RGB", image.size, (255, 255, 255)), mask)
        else:
            image.putalpha(mask)
    out = io.BytesIO()
    if format == "png":
        described = PngImagePlugin.PngInfo()
        if xmp:
            described.add_itxt(_PNG_XMP, xmp.decode())
        image.save(out, "PNG", compress_level=1, pnginfo=described)
    elif format == "jpeg":
        image.save(out, "JPEG", quality=quality, subsampling="4:4:4" if quality >= 90 else "4:2:0", xmp=xmp)
    else:
        image.save(out, "WEBP", quality=quality, xmp=xmp or b"")
    return out.getvalue()


def _recognise(data: bytes, limits: PictureLimits) -> _Format:
    if not data:
        raise PictureError("the file is empty (0 bytes)")
    if len(data) > limits.bytes:
        size, most = len(data) / 2**20, limits.bytes / 2**20
        raise PictureTooLargeError(f"the file has {size:.1f} MiB: at most {most:g} MiB are accepted")
    for kind in _FORMATS:
        if kind.begins(data[:16]):
            return kind
    known = ", ".join(kind.label for kind in _FORMATS)
    raise UnknownFormatError(f"not a picture in a known format ({known})")


def _to_picture(image: Image.Image, kind: _Format) -> Picture:
    orientation, profile = _orientation(image), image.info.get("icc_profile")
    colour, alpha = _split_alpha(_to_8_bit(image, kind))
    colour = _to_srgb(colour, profile)
    if orientation in _UPRIGHT:
        colour = colour.transpose(_UPRIGHT[orientation])
        alpha = alpha.transpose(_UPRIGHT[orientation]) if alpha is not None else None
    return Picture(_pixels(colour), None if alpha is None else _pixels(alpha), kind.name)


def _pixels(image: Image.Image) -> Pixels:
    """An array of its own, filled band by band: of a whole picture Pillow would first make bytes, as large again."""
    width, height = image.size
    out = np.empty((height, width, 3) if image.mode == "RGB" else (height, width), np.uint8)
    for top, bottom in bands(0, height):
        out[top:bottom] = np.asarray(image.crop((0, top, width, bottom)))
    return out


def _orientation(image: Image.Image) -> int:
    try:
        if isinstance(exif := image.info.get("exif"), bytes):
            check_exif(exif)
        elif len(image.info.get("Raw profile type exif", "")) > _LONGEST_EXIF_TEXT:
            return 1
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF is common in old archives and says nothing about the pixels
        return 1


def _to_8_bit(image: Image.Image, kind: _Format) -> Image.Image:
    """Modes that convert() would clip instead of scale."""
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        if image.mode == "F" or int(values.min()) < 0 or int(values.max()) > 65_535:
            raise PictureError(f"the {kind.label} file has 32-bit pixels with an undefined white: save it with 16")
        white = 2 ** min(tiff_number(image, _BITS, 16), 16) - 1 if kind.name == "tiff" else 65_535
        grey = ((values.astype(np.uint32) * 255 + white // 2) // white).clip(0, 255).astype(np.uint8)
        # Pillow turns a TIFF whose 0 is white round where it has 8 bits, and not where it has more.
        return Image.fromarray(255 - grey if tiff_number(image, _PHOTOMETRIC, 1) == 0 else grey)
    if image.mode == "LAB":
        raise PictureError(f"the {kind.label} file holds CIELAB colours: save it as RGB")
    return image


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The picture in L, RGB or CMYK, and its alpha."""
    if image.has_transparency_data:
        both = image.convert("RGBA")
        return both.convert("RGB"), both.getchannel("A")
    if image.mode in ("L", "RGB", "CMYK"):
        return image, None
    return image.convert("L" if image.mode == "1" else "RGB"), None


def _to_srgb(image: Image.Image, profile: object) -> Image.Image:
    if isinstance(profile, bytes) and profile:  # a TIFF's tag may be anything
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if not ImageCms.getProfileDescription(source).startswith("sRGB"):
                converted = ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
                assert converted is not None  # it is None only for a conversion in place
                return converted
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # a broken profile, or one for other channels than the picture has, cannot mean anything
    return image if image.mode == "RGB" else image.convert("RGB")
