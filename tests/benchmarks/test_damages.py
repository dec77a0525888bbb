"""The table of damages, on a drawn face and with a stand-in for the network."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from benchmarks import damages as command
from benchmarks.damages import DAMAGES, jpeg, markdown, measure
from models.bundle import Bundle
from tests.toy_faces import ToyGenerator, analyzer, photo
from training.faces import load_faces


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.fromarray(photo(((255.5, 255.5), 512, (150, 190, 150)), size=(512, 512))).save(tmp_path / "carl.png")
    (tmp_path / "index.csv").write_text("file,identity,split,hq\ncarl.png,carl,val,1\n")
    return tmp_path


def toy(folder: Path) -> Bundle:
    manifest = SimpleNamespace(name="toy", version="1")
    return Bundle(cast(Any, manifest), folder, cast(Any, ToyGenerator()), analyzer())


def test_every_damage_changes_a_face_but_nothing_does_not(folder: Path) -> None:
    truth = load_faces(folder, "val").enlarged(0)
    for name, damage in DAMAGES.items():
        damaged = damage(truth, np.random.default_rng(0))
        assert damaged.shape == truth.shape and damaged.dtype == np.uint8
        assert np.array_equal(damaged, truth) is (name == "nothing")
        again = damage(truth, np.random.default_rng(0))
        assert np.array_equal(damaged, again), "the same seed draws the same"


def test_grey_damages_keep_a_grey_picture_grey() -> None:
    grey = np.full((64, 64, 3), 120, np.uint8)
    for name in ("grain of 40 levels, the same in all colours", "grey dots of 4 px"):
        damaged = DAMAGES[name](grey, np.random.default_rng(0))
        assert np.array_equal(damaged[..., 0], damaged[..., 2])
    for name in ("grain of 40 levels, of each colour its own", "coloured dots of 5 px"):
        damaged = DAMAGES[name](grey, np.random.default_rng(0))
        assert not np.array_equal(damaged[..., 0], damaged[..., 2])


def test_a_lower_quality_is_further_off() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    rng = np.random.default_rng(0)
    errors = [np.abs(jpeg(quality)(picture, rng).astype(float) - picture).mean() for quality in (95, 50, 10)]
    assert errors == sorted(errors)


def test_every_bundle_is_shown_the_same_faces(folder: Path) -> None:
    found = measure([toy(folder), toy(folder)], load_faces(folder, "val"), count=3)
    assert list(found) == list(DAMAGES)
    for name, (given, one, other) in found.items():
        assert one == other
        assert (given[0] > 100) is (name == "nothing")
    table = markdown(["a", "b"], found).splitlines()
    assert table[0] == "| | input | a | b |" and len(table) == 2 + len(DAMAGES)


def test_the_command_prints_the_table(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "load_bundle", lambda given: toy(folder))
    monkeypatch.setattr(sys, "argv", ["damages", "--data", str(folder)])
    command.main()
    out = capsys.readouterr().out
    assert "| nothing | 106.02 |" in out and "faces: 1, blind" in out


def test_what_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["damages", "--data", str(tmp_path / "none")])
    with pytest.raises(SystemExit) as error:
        command.main()
    assert "none" in str(error.value) and "\n" not in str(error.value)
