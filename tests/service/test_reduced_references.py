"""Large JPEGs as references are read no larger than their faces need, over HTTP and by `honestface restore`."""

from pathlib import Path
from types import ModuleType

import pytest

from models.picture import Picture, decode, encode
from service import restoration, restore_files
from tests.service.restoring import Run, save
from tests.service.running import ANNA_PHOTO, Running, pixels_of, problem
from tests.toy_faces import ANNA, photo


def jpeg(side: float | None) -> bytes:
    """2600 px wide, with a face that has a crop of `side` px, or none."""
    faces = [] if side is None else [((1300.0, 1200.0), side, ANNA)]
    return encode(photo(*faces, size=(2600, 2400)), None, "jpeg")


LARGE, SMALL, EMPTY = jpeg(1600), jpeg(800), jpeg(None)


def widths_read(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> list[int]:
    """Grows by the width of each picture that a module decodes."""
    widths: list[int] = []

    def noted(data: bytes, *arguments: object) -> Picture:
        picture = decode(data, *arguments)  # type: ignore[arg-type]
        widths.append(picture.width)
        return picture

    monkeypatch.setattr(module, "decode", noted)
    return widths


@pytest.mark.parametrize("reference, needed", [(LARGE, [1300]), (SMALL, [1300, 2600])], ids=["large", "small"])
def test_the_service(toy: Running, monkeypatch: pytest.MonkeyPatch, reference: bytes, needed: list[int]) -> None:
    widths = widths_read(monkeypatch, restoration)
    response = toy.client.post("/restore", files=[("image", ANNA_PHOTO), ("references", reference)])
    assert response.status_code == 200
    assert sorted(widths) == sorted([*needed, pixels_of(ANNA_PHOTO).shape[1]])


def test_the_service_refuses_as_before(toy: Running) -> None:
    response = toy.client.post("/restore", files=[("image", ANNA_PHOTO), ("references", EMPTY)])
    assert problem(response, "invalid-reference", 422) == "reference 1: no face was found"


def test_the_command(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    widths = widths_read(monkeypatch, restore_files)
    source, large, small, empty = save(tmp_path / "in.png"), *(tmp_path / name for name in ("l.jpg", "s.jpg", "e.jpg"))
    for path, data in ((large, LARGE), (small, SMALL), (empty, EMPTY)):
        path.write_bytes(data)
    assert run(source, "-r", large, "-r", small, "-o", tmp_path / "out.png").code == 0
    assert widths == [480, 1300, 1300, 2600]
    result = run(source, "-r", empty, "-o", tmp_path / "none.png")
    assert result.code == 1 and result.err == f"honestface: {empty}: no face was found\n"
