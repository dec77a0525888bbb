"""Pictures of four flat quarters as files, and how well one comes back."""

import io
from xml.etree import ElementTree

import numpy as np
from PIL import Image


def colours(height: int = 24, width: int = 40) -> np.ndarray:
    """Four flat quarters (red, green / blue, grey), so that lossy formats keep them and every turn of them differs."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = (200, 20, 30)
    picture[: height // 2, width // 2 :] = (20, 200, 40)
    picture[height // 2 :, : width // 2] = (10, 30, 220)
    picture[height // 2 :, width // 2 :] = (128, 128, 128)
    return picture


def worst_quarter(pixels: np.ndarray) -> int:
    """How far, in grey levels, the middles of the four quarters are from what they should be."""
    middles = [6, 6, 18, 18], [10, 30, 10, 30]
    return int(np.abs(pixels[middles].astype(int) - colours()[middles]).max())


def file(image: Image.Image, format: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def restored_by(data: bytes) -> tuple[str, str] | None:
    """The tool and the source type that a picture's XMP names; None where it has no XMP."""
    with Image.open(io.BytesIO(data)) as image:
        packet = image.info.get("xmp")
    if packet is None:
        return None
    (description,) = ElementTree.fromstring(packet).iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    tool = description.attrib["{http://ns.adobe.com/xap/1.0/}CreatorTool"]
    source = description.attrib["{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"]
    return tool, source.rpartition("/")[2]
