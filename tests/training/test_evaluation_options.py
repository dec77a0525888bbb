"""What `honestface evaluate` makes of its options, before anything is measured."""

from pathlib import Path
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from models.bundle import Bundle
from models.errors import HonestFaceError, PictureError
from tests.toy_faces import ToyGenerator, analyzer
from training import evaluation
from training.cli import app
from training.degradation import PRESETS, Degradation
from training.evaluation import evaluate, stranger_of
from training.faces import load_faces
from training.metrics import MetricFiles


def test_a_stranger_is_one_of_the_faces_measured_or_else_of_all(face_folder: Path) -> None:
    faces = load_faces(face_folder, "val")
    assert [file.identity for file in faces.files] == ["carl", "carl", "dora", "dora"]
    assert [stranger_of(faces, range(4), place) for place in range(4)] == [2, 3, 0, 1]  # half the list further on
    assert [stranger_of(faces, range(3), place) for place in range(3)] == [2, 2, 0]
    assert [stranger_of(faces, range(2), place) for place in range(2)] == [2, 3]  # both show carl
    carl = load_faces(face_folder, "val")
    carl.files[2:] = []
    with pytest.raises(PictureError, match="at least two people"):
        stranger_of(carl, range(2), 0)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_face_is_degraded(face_folder: Path, monkeypatch: pytest.MonkeyPatch, preset: str) -> None:
    """What is drawn is that of the preset itself where it leaves no face as it is."""
    seen: list[Degradation] = []

    def stop(truth: object, degradation: Degradation, *_: object, **__: object) -> None:
        seen.append(degradation)
        raise HonestFaceError("seen")

    monkeypatch.setattr(evaluation, "degrade", stop)
    bundle = Bundle(cast(Any, None), face_folder, cast(Any, ToyGenerator()), analyzer())
    with pytest.raises(HonestFaceError, match="seen"):
        evaluate(bundle, load_faces(face_folder, "val"), preset, 1, MetricFiles())
    assert seen[0].clean == 0
    assert (seen[0] == PRESETS[preset]) is (preset not in ("wide", "mild"))


@pytest.mark.parametrize("device", ["foo", "cuda:99", "meta:x"])
def test_a_device_that_is_not_there(face_folder: Path, tmp_path: Path, device: str) -> None:
    command = ["evaluate", "--data", str(face_folder), "--out", str(tmp_path / "out"), "--device", device]
    error = CliRunner().invoke(app, command).exception
    assert isinstance(error, HonestFaceError) and f"device '{device}' cannot be used here" in str(error)
    assert "\n" not in str(error) and not (tmp_path / "out").exists()


def test_results_that_cannot_be_written(face_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's caller makes one line of an OSError."""
    monkeypatch.setattr("models.bundle.load_bundle", lambda *_: pytest.fail("too late"))
    (tmp_path / "out").touch()
    result = CliRunner().invoke(app, ["evaluate", "--data", str(face_folder), "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, FileExistsError) and result.exception.filename


@pytest.mark.parametrize("command", ["evaluate", "blend-faces"])
def test_a_count_of_nothing(tmp_path: Path, command: str) -> None:
    given = [command, "--data", str(tmp_path), "--out", str(tmp_path / "out"), "--count", "0"]
    result = CliRunner().invoke(app, [*given, *(["--teacher", "t.onnx"] if command == "blend-faces" else [])])
    assert result.exit_code == 2 and "--count" in result.output
