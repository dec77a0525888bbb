from pathlib import Path

import pytest
from PIL import Image

from models.geometry import Pixels
from training import decoded_pictures
from training.decoded_pictures import DecodedPictures, read_pixels


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    for path in paths:
        Image.effect_noise((256, 256), 50).convert("RGB").save(path)
    return paths


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the pictures that were decoded, each time."""
    names: list[str] = []

    def read(path: Path) -> Pixels:
        names.append(path.stem)
        return read_pixels(path)

    monkeypatch.setattr(decoded_pictures, "read_pixels", read)
    return names


def test_a_picture_in_its_own_size_and_enlarged(files: list[Path]) -> None:
    pictures = DecodedPictures()
    assert pictures.read(files[0], enlarged=True).shape == (512, 512, 3)
    assert pictures.read(files[0]).shape == (256, 256, 3)
    assert pictures.read(files[0], enlarged=True) is pictures.read(files[0], enlarged=True)


@pytest.mark.parametrize(("enlarged", "side"), [(False, 256), (True, 512)])
def test_the_last_used_pictures_are_kept_up_to_a_number_of_bytes(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, decoded: list[str], enlarged: bool, side: int
) -> None:
    monkeypatch.setattr(decoded_pictures, "KEPT_BYTES", 2 * side * side * 3)
    pictures = DecodedPictures()
    for index in (0, 1, 0, 2, 0, 1):  # the third takes the place of the second, which was used before the first
        pictures.read(files[index], enlarged)
    assert decoded == ["a", "b", "c", "b"]


def test_a_picture_larger_than_what_may_be_kept_is_given_all_the_same(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoded_pictures, "KEPT_BYTES", 1)
    pictures = DecodedPictures()
    assert [pictures.read(files[index], enlarged=True).shape for index in (0, 1, 0)] == [(512, 512, 3)] * 3
