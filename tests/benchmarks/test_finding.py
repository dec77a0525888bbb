"""The table of found faces, on drawn faces and with toy face tools."""

import csv
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from benchmarks import finding as command
from benchmarks.finding import OFF, Shown, Tally, aligned_faces, error_of, measure, photographs, pieces
from models.face_analyzer import FaceAnalyzer
from models.geometry import FFHQ_512, fit_similarity, five_points, shrink, transform_points
from tests.toy_faces import TEMPLATE, analyzer, photo

CENTRE, SIDE = (200.0, 155.0), 160.0


@pytest.fixture
def labelled(tmp_path: Path) -> list[tuple[Path, np.ndarray]]:
    """One photograph of a drawn face, and its landmarks."""
    path = tmp_path / "anna.png"
    Image.fromarray(photo((CENTRE, SIDE, (180, 150, 150)), size=(426, 320))).save(path)
    marks = (TEMPLATE - 255.5) * SIDE / 512 + CENTRE
    np.savez(tmp_path / "landmarks.npz", files=["anna.png"], landmarks=marks[None].astype(np.float32))
    with (tmp_path / "index.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("file", "split"), ("anna.png", "val")])
    return [(path, marks.astype(np.float32))]


def test_a_face_where_its_labels_are_is_right(labelled: list[tuple[Path, np.ndarray]]) -> None:
    shown = dict(photographs(labelled))
    error = error_of(analyzer(), shown["photographs"])
    assert error is not None and error < 3
    moved = Shown(shown["photographs"].picture, shown["photographs"].landmarks + 60)  # type: ignore[operator]
    wrong = error_of(analyzer(), moved)
    assert wrong is not None and wrong > OFF


def test_turned_landmarks_stay_on_the_face(labelled: list[tuple[Path, np.ndarray]]) -> None:
    for kind, shown in photographs(labelled):
        if kind.startswith("turned"):
            assert shown.landmarks is not None
            eyes = five_points(shown.landmarks)[:2].round().astype(int)
            colours = [shown.picture[y, x].argmax() for x, y in eyes]
            assert colours == [0, 1], "a red eye and a green one"


def test_nothing_found_and_nothing_there(labelled: list[tuple[Path, np.ndarray]]) -> None:
    assert error_of(analyzer(), Shown(np.full((200, 200, 3), 90, np.uint8), None)) is None
    found = error_of(analyzer(), Shown(dict(photographs(labelled))["photographs"].picture, None))
    assert found == float("inf")


def test_pieces_beside_a_face_show_none(labelled: list[tuple[Path, np.ndarray]]) -> None:
    found = [shown for _, shown in pieces(labelled)]
    assert len(found) >= 3
    for shown in found:
        small = shrink(shown.picture, (8, 8)).astype(int)
        assert shown.landmarks is None and (small.max(2) - small.min(2)).max() < 60, "eyes and mouth are colourful"


def test_aligned_faces_are_as_large_as_their_labels(labelled: list[tuple[Path, np.ndarray]], tmp_path: Path) -> None:
    path = tmp_path / "aligned.png"
    Image.fromarray(photo(((255.5, 255.5), 512, (180, 150, 150)), size=(512, 512))).save(path)
    rows = dict(aligned_faces([(path, TEMPLATE.astype(np.float32))]))
    assert list(rows) == [f"aligned faces, {preset}" for preset in ("vqfr-v1", "vqfr-v2", "wide", "small", "print")]
    shown = rows["aligned faces, small"]
    assert shown.landmarks is not None and shown.picture.shape == (512, 512, 3)
    matrix = fit_similarity(five_points(shown.landmarks), FFHQ_512)
    assert np.abs(transform_points(matrix, shown.landmarks) - TEMPLATE).max() < 1


def test_tallies() -> None:
    tally = Tally()
    for error in (None, float("inf"), 3.0, 5.0, OFF + 1):
        tally.count(error)
    assert str(tally) == "2, 2, 1, 4.0 px" and str(Tally()) == "0, 0, 0"


def test_every_bundle_is_shown_the_same(labelled: list[tuple[Path, np.ndarray]]) -> None:
    found = measure([analyzer(), analyzer()], pieces(labelled))
    assert [str(tally) for tally in found["pieces beside the face"]] == [f"0, 0, {len(list(pieces(labelled)))}"] * 2


def test_the_command(
    labelled: list[tuple[Path, np.ndarray]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def toy(folder: Path | None) -> SimpleNamespace:
        tools: FaceAnalyzer = analyzer()
        return SimpleNamespace(manifest=SimpleNamespace(name="toy", version="1"), analyzer=tools)

    monkeypatch.setattr(command, "load_bundle", toy)
    (tmp_path / "index.csv").write_text("file,identity,split,hq\nanna.png,anna,val,1\n")
    monkeypatch.setattr(sys, "argv", ["finding", "--photos", str(tmp_path), "--faces", str(tmp_path), "--count", "1"])
    command.main()
    table = capsys.readouterr().out.splitlines()
    assert table[0] == "| right, wrong, refused, mean error | toy 1 |" and table[2].startswith(
        "| photographs | 1, 0, 0"
    )
    monkeypatch.setattr(sys, "argv", ["finding", "--photos", str(tmp_path / "no"), "--faces", str(tmp_path)])
    with pytest.raises(SystemExit, match="landmarks"):
        command.main()
