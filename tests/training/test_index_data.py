from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from models.errors import HonestFaceError, PictureError
from training.cli import app
from training.faces import load_faces
from training.index_data import index_data


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two data sets of three and two people, two of whom have one name; a folder that is none of theirs."""
    for source, people in (("celebref", ("1", "2", "10")), ("reface", ("2", "anna")), ("other", ("x",))):
        for person in people:
            (tmp_path / "data" / source / person).mkdir(parents=True)
            for number in range(2):
                Image.new("RGB", (8, 8)).save(tmp_path / "data" / source / person / f"{number}.png")
    return tmp_path / "data"


def people(root: Path, split: str) -> set[str]:
    return {file.identity for file in load_faces(root, split).files}


def test_one_index_over_two_data_sets(root: Path, tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("anna\n\n")
    command = [
        "index-data",
        "--data",
        str(root),
        "--source",
        "celebref=1",
        "--source",
        f"reface={tmp_path / 'test.txt'}",
    ]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0 and "10 pictures, 3 people for training, 2 held out" in result.output
    assert people(root, "val") == {"celebref/1", "reface/anna"}
    assert people(root, "train") == {"celebref/2", "celebref/10", "reface/2"}
    assert all(file.path.is_file() and file.hq for file in load_faces(root, "train").files)
    assert [path.name for path in root.iterdir() if path.is_file()] == ["index.csv"]


def test_a_folder_of_its_own(root: Path, tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("10\n1")
    index_data(root / "celebref", {".": str(tmp_path / "test.txt")})
    assert (people(root / "celebref", "val"), people(root / "celebref", "train")) == ({"1", "10"}, {"2"})


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        ({"celebref": "4"}, "celebref has 3 people, not 4"),
        ({"celebref": "3"}, "has no pictures of the train split"),
        ({"celebref": "0"}, "has no pictures of the val split"),
        ({"nobody": "1"}, "nobody is no folder of"),
        ({"..": "1"}, "is no folder of"),
        ({"celebref": "no.txt"}, "no.txt cannot be read"),
        ({"celebref": "{names}"}, "names 'zoe', of whom"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(
    root: Path, tmp_path: Path, sources: dict[str, str], said: str
) -> None:
    (tmp_path / "names.txt").write_text("1\nzoe\n")
    given = {name: held_out.replace("{names}", str(tmp_path / "names.txt")) for name, held_out in sources.items()}
    with pytest.raises(PictureError) as caught:
        index_data(root, given)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not list(root.glob("*.csv"))


def test_an_index_is_not_overwritten(root: Path) -> None:
    (root / "index.csv").write_text("mine")
    with pytest.raises(PictureError, match="exists: it is not overwritten"):
        index_data(root, {"celebref": "1"})
    assert (root / "index.csv").read_text() == "mine"


@pytest.mark.parametrize("sources", [["celebref"], ["celebref="], ["=1"], ["celebref=1", "celebref=2"]])
def test_sources_that_are_none(root: Path, sources: list[str]) -> None:
    command = ["index-data", "--data", str(root), *(word for source in sources for word in ("--source", source))]
    error = CliRunner().invoke(app, command).exception
    assert isinstance(error, HonestFaceError) and "--source is FOLDER=HELD_OUT, each folder once" in str(error)
