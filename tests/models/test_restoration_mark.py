import numpy as np
import pytest

from models.choices import PictureFormat
from models.picture import decode, encode
from models.restoration_mark import restoration_mark
from tests.pictures import colours, restored_by, worst_quarter


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_a_picture_says_what_restored_it(format: PictureFormat) -> None:
    data = encode(colours(), None, format, xmp=restoration_mark("tiny", "1.2"))
    assert restored_by(data) == ("HonestFace tiny 1.2", "compositeWithTrainedAlgorithmicMedia")
    assert worst_quarter(decode(data).pixels) < 8


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_without_a_mark_there_is_no_metadata(format: PictureFormat) -> None:
    assert restored_by(encode(colours(), None, format)) is None


def test_the_pixels_of_a_marked_picture_are_the_same() -> None:
    plain, marked = (encode(colours(), None, "jpeg", xmp=xmp) for xmp in (None, restoration_mark("tiny", "1.2")))
    assert np.array_equal(decode(plain).pixels, decode(marked).pixels)


def test_a_version_is_text_whatever_it_holds() -> None:
    data = encode(colours(), None, "png", xmp=restoration_mark("tiny", """<'1" & 2>"""))
    assert restored_by(data) == ("""HonestFace tiny <'1" & 2>""", "compositeWithTrainedAlgorithmicMedia")
