import numpy as np
import pytest
from PIL import Image

from models.choices import PictureFormat
from models.picture import decode, encode
from models.restoration_mark import restoration_mark
from tests.pictures import colours, file, restored_by, worst_quarter

#: TIFF's tag.
XMP = 700


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_a_picture_says_what_restored_it(format: PictureFormat) -> None:
    data = encode(colours(), None, format, xmp=restoration_mark("tiny", "1.2"))
    assert restored_by(data) == ("HonestFace tiny 1.2", "compositeWithTrainedAlgorithmicMedia")
    assert worst_quarter(decode(data).pixels) < 8


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_without_a_mark_there_is_no_metadata(format: PictureFormat) -> None:
    plain = encode(colours(), None, format)
    assert restored_by(plain) is None and not decode(plain).generated


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff", "avif"])
def test_a_mark_is_read_again(format: str) -> None:
    mark = restoration_mark("tiny", "1.2")
    if format in ("png", "jpeg", "webp"):
        data = encode(colours(), None, format, xmp=mark)  # type: ignore[arg-type]
    else:  # converted by other software, which keeps metadata
        kept = {"tiffinfo": {XMP: mark}} if format == "tiff" else {"xmp": mark}
        data = file(Image.fromarray(colours()), format, **kept)
    assert decode(data).generated


@pytest.mark.parametrize(
    ("word", "generated"),
    [("trainedAlgorithmicMedia", True), ("digitalCapture", False), ("algorithmicMedia", False)],
)
def test_other_programs_words(word: str, generated: bool) -> None:
    ours = b"compositeWithTrainedAlgorithmicMedia"
    packet = restoration_mark("tiny", "1.2")
    assert packet.count(ours) == 1
    assert decode(encode(colours(), None, "png", xmp=packet.replace(ours, word.encode()))).generated is generated


def test_the_pixels_of_a_marked_picture_are_the_same() -> None:
    plain, marked = (encode(colours(), None, "jpeg", xmp=xmp) for xmp in (None, restoration_mark("tiny", "1.2")))
    assert np.array_equal(decode(plain).pixels, decode(marked).pixels)


def test_a_version_is_text_whatever_it_holds() -> None:
    data = encode(colours(), None, "png", xmp=restoration_mark("tiny", """<'1" & 2>"""))
    assert restored_by(data) == ("""HonestFace tiny <'1" & 2>""", "compositeWithTrainedAlgorithmicMedia")
