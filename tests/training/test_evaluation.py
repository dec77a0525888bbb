import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from models.affine_landmark_distance import MOUTH
from models.aligned_face import to_network
from models.bundle import Bundle
from models.errors import HonestFaceError, PictureError
from models.geometry import Pixels
from models.vgg16 import vgg16_features
from tests.toy_faces import ANNA, TEMPLATE, ToyGenerator, ToyIdentity, analyzer, photo
from training.cli import app
from training.evaluation import ROWS, Evaluation, _errors, evaluate
from training.faces import Faces, all_files, load_faces
from training.images import save_sheet
from training.metrics import PYIQA, Figures, MetricFiles, Metrics


@pytest.fixture(scope="module")
def found(face_folder: Path) -> Evaluation:
    """Two of the four held-out pictures, restored by toy tools; the generator brightens, so it makes things worse."""
    bundle = Bundle(cast(Any, None), face_folder, cast(Any, ToyGenerator()), analyzer())
    return evaluate(bundle, load_faces(face_folder, "val"), "vqfr-v1", 3, MetricFiles(), "none")


def test_every_row_has_every_figure(found: Evaluation) -> None:
    assert tuple(found.figures) == ROWS
    elsewhere = ["LPIPS (alex)", "DISTS", "CLIP-IQA", "MANIQA (KonIQ)", "MUSIQ", "MS-SWD", "FID"]
    columns = ["PSNR", "SSIM", "Deg. (toy)", "L2-LD (68)", "ALD-e", "ALD-m", "colour shift (own)"]
    for values in found.figures.values():
        assert [name for name, value in values.items() if value is not None] == columns
        assert [name for name, value in values.items() if value is None] == elsewhere
    assert found.faces == 3


def test_brighter_is_further_from_the_truth(found: Evaluation) -> None:
    psnr = [found.figures[row]["PSNR"] for row in ("input", "blind", "references")]
    assert psnr == sorted(psnr, reverse=True) and psnr[2] < psnr[0] - 3


def test_landmark_distances_are_between_what_one_network_finds() -> None:
    truth = photo(((256, 256), 512, ANNA), size=(512, 512))
    metrics = Metrics(analyzer(), MetricFiles())
    same, moved = metrics.figures({"same": truth, "moved": np.roll(truth, 6, axis=1)}, truth).values()
    assert (same["L2-LD (68)"], same["ALD-e"], same["ALD-m"]) == (0, pytest.approx(0), pytest.approx(0))
    assert moved["L2-LD (68)"] == pytest.approx(6, abs=0.2)
    assert moved["ALD-e"] == pytest.approx(0, abs=0.1)  # a translation is affine


def test_a_bent_mouth_is_the_mouths_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = photo(((256, 256), 512, ANNA), size=(512, 512))
    metrics, bent = Metrics(analyzer(), MetricFiles()), TEMPLATE.copy()
    bent[list(MOUTH)[::2], 1] += 10
    found = iter([TEMPLATE, bent])
    detector = SimpleNamespace(landmarks=lambda _: SimpleNamespace(points=torch.from_numpy(next(found))[None]))
    monkeypatch.setattr(metrics, "analyzer", replace(metrics.analyzer, landmark_detector=detector))
    figures = metrics.figures({"bent": truth}, truth)["bent"]
    assert figures["ALD-e"] == pytest.approx(0, abs=1e-6)
    assert figures["ALD-m"] is not None and figures["ALD-m"] > 3
    assert figures["L2-LD (68)"] == pytest.approx(10 * len(MOUTH) / 2 / 68)


def test_the_truths_features_are_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {f"features.{name}": value for name, value in vgg16_features(15).state_dict().items()}
    torch.save(state, tmp_path / "vgg16.pt")
    truth = photo(((256, 256), 512, ANNA), size=(512, 512))
    moved = np.roll(truth, 6, axis=1)
    metrics = Metrics(analyzer(), MetricFiles(vgg16=tmp_path / "vgg16.pt"))
    assert metrics.vgg16 is not None
    expected = float(metrics.vgg16(to_network([moved]), to_network([truth])))
    looked = Mock(wraps=metrics.vgg16.activations)
    monkeypatch.setattr(metrics.vgg16, "activations", looked)
    figures = metrics.figures({"same": truth, "moved": moved}, truth)
    assert (figures["same"]["VGG16 features"], figures["moved"]["VGG16 features"]) == (0, pytest.approx(expected))
    assert expected > 0 and looked.call_count == 3


def test_a_column_is_named_after_the_first_word_of_its_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ToyIdentity, "name", "iResNet-100, 512-d")
    truth = photo(((256, 256), 512, ANNA), size=(512, 512))
    figures = Metrics(analyzer(), MetricFiles()).figures({"same": truth}, truth)["same"]
    assert "Deg. (iResNet-100)" in figures and not any("," in column for column in figures)


def test_strangers_are_flagged_and_the_same_person_is_not(found: Evaluation) -> None:
    assert found.flagged_right == 0
    assert found.flagged_wrong > 0.5


def test_tables_and_sheet(found: Evaluation, tmp_path: Path) -> None:
    lines = found.markdown().splitlines()
    assert lines[0].startswith("| | PSNR |") and lines[2].startswith("| input |")
    assert "3 faces with references, at most 2 of a person's own." in lines[-1]
    assert any(line.startswith("Standard errors, row references less row input: PSNR ") for line in lines)
    assert "Not measured: LPIPS (alex), DISTS, CLIP-IQA, MANIQA (KonIQ), MUSIQ, MS-SWD, FID." in lines
    table = [line.split(",") for line in found.csv().splitlines()]
    assert [line[0] for line in table] == ["row", *ROWS] and len({len(line) for line in table}) == 1
    assert table[1][table[0].index("FID")] == "not measured"
    kept = json.loads(found.json("honestface evaluate"))
    assert (kept["command"], kept["faces"], kept["flagged"]["right"]) == ("honestface evaluate", 3, 0)
    assert "FID" not in kept["figures"]["input"]  # it was not measured
    assert [f"{values['PSNR']:.3f}" for values in kept["figures"].values()] == [
        line.split(" | ")[1] for line in lines[2 : 2 + len(ROWS)]
    ]
    save_sheet(found.sheet, tmp_path / "sheet.png", side=64)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (5 * 64, 3 * 64)


def test_faces_are_degraded_anew_at_each_draw(face_folder: Path, found: Evaluation) -> None:
    bundle = Bundle(cast(Any, None), face_folder, cast(Any, ToyGenerator()), analyzer())
    twice = evaluate(bundle, load_faces(face_folder, "val"), "vqfr-v1", 3, MetricFiles(), "none", draws=2)
    assert (twice.faces, twice.draws, len(twice.sheet)) == (3, 2, 3)
    assert "3 faces with references, at most 2 of a person's own, each degraded 2 times." in twice.markdown()
    assert json.loads(twice.json(""))["draws"] == 2
    for row, figures in twice.figures.items():
        assert figures["PSNR"] != found.figures[row]["PSNR"]
    for one, two in zip(found.sheet, twice.sheet, strict=True):  # the first draw is the one that was
        assert np.array_equal(one[0], two[0])


def test_the_error_of_a_difference_is_that_of_faces_not_of_draws() -> None:
    values: list[Figures] = [{"PSNR": x, "LPIPS": None} for x in (3, 5, 10, 10, 13, 19)]
    inputs: list[Figures] = [{"PSNR": x, "LPIPS": None} for x in (1, 1, 2, 2, 3, 3)]
    mean = [3, 8, 13]  # of the differences 2 and 4, 8 and 8, 10 and 16
    assert _errors(values, inputs, draws=2) == {"PSNR": pytest.approx(np.std(mean, ddof=1) / 3**0.5), "LPIPS": None}
    assert _errors(values[:2], inputs[:2], draws=2) == {"PSNR": None, "LPIPS": None}


@pytest.mark.parametrize("references", [1, 2, 3])
def test_so_many_references_of_a_face(face_folder: Path, monkeypatch: pytest.MonkeyPatch, references: int) -> None:
    """One person has four pictures, three of them targets; dora has two."""
    files = {file.path.stem: file for file in all_files(face_folder)}
    one = [replace(files[name], identity="one") for name in ("anna_0", "anna_1", "ben_1", "carl_0")]
    faces = Faces([*one, files["dora_0"], files["dora_1"]])
    seen = []

    def restored(restorer: object, lq: Pixels, given: Mapping[str, Sequence[object]], options: object) -> Any:
        seen.append({row: len(references) for row, references in given.items()})
        return dict.fromkeys(given, lq), {}

    monkeypatch.setattr("training.evaluation.restored_rows", restored)
    bundle = Bundle(cast(Any, None), face_folder, cast(Any, ToyGenerator()), analyzer())
    evaluate(bundle, faces, "vqfr-v1", 5, MetricFiles(), "none", references=references)
    own = [references] * 3 + [1, 1]
    assert seen == [{"blind": 0, "references": count, "wrong references": 1} for count in own]


def test_the_command_says_how_many_references_and_keeps_what_it_was_without_paths(
    face_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle(cast(Any, None), face_folder, cast(Any, ToyGenerator()), analyzer())
    monkeypatch.setattr("models.bundle.load_bundle", lambda *_: bundle)
    command = ["evaluate", "--data", str(face_folder), "--out", str(tmp_path), "--count", "3", "--references", "3"]
    result = CliRunner().invoke(app, [*command, "--preset", "vqfr-v1", "--color-fix", "none"])
    assert "3 faces with references, at most 3 of a person's own." in result.output
    kept = json.loads((tmp_path / "vqfr-v1.json").read_text())["command"]
    options = "--data DATA --out OUT --count 3 --references 3 --preset vqfr-v1 --color-fix none"
    assert kept.endswith(f" evaluate {options}")


def test_one_person_alone_has_no_stranger(face_folder: Path) -> None:
    carl = Faces([file for file in load_faces(face_folder, "val").files if file.identity == "carl"])
    bundle = Bundle(cast(Any, None), face_folder, cast(Any, ToyGenerator()), analyzer())
    with pytest.raises(PictureError, match="at least two people"):
        evaluate(bundle, carl, "vqfr-v1", 2, MetricFiles(), "none")


def test_nobody_has_two_pictures(face_folder: Path) -> None:
    carl = Faces(load_faces(face_folder, "val").files[:1])
    bundle = Bundle(cast(Any, None), face_folder, cast(Any, ToyGenerator()), analyzer())
    with pytest.raises(PictureError, match="nobody has two pictures"):
        evaluate(bundle, carl, "vqfr-v1", 2, MetricFiles(), "none")


def test_a_bundle_that_takes_no_references_is_measured_without(face_folder: Path, tmp_path: Path) -> None:
    generator = ToyGenerator()
    generator.takes_references = False
    bundle = Bundle(cast(Any, None), face_folder, cast(Any, generator), analyzer())
    found = evaluate(bundle, load_faces(face_folder, "val"), "vqfr-v1", 2, MetricFiles(), "none")
    assert tuple(found.figures) == ("input", "lanczos", "blind")
    assert found.markdown().endswith("2 faces. This bundle takes no references.")
    save_sheet(found.sheet, tmp_path / "sheet.png", side=64)


def test_what_pyiqa_measures_when_it_is_there(face_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that answers with what it was given: a number for each picture, the count of files for FID."""
    created = []

    def create_metric(name: str, device: object) -> Any:
        created.append(name)
        if name == "fid":
            return lambda restored, truth: len(list(Path(restored).iterdir())) + len(list(Path(truth).iterdir()))
        return lambda *pictures: sum(float(p.min() >= 0 and p.max() <= 1) for p in pictures)

    monkeypatch.setitem(sys.modules, "pyiqa", SimpleNamespace(create_metric=create_metric))
    bundle = Bundle(cast(Any, None), face_folder, cast(Any, ToyGenerator()), analyzer())
    found = evaluate(bundle, load_faces(face_folder, "val"), "vqfr-v1", 3, MetricFiles(pyiqa=True), "none")
    assert created == [*PYIQA.values(), "fid"]
    for values in found.figures.values():
        assert [values[name] for name in (*PYIQA, "FID")] == [1, 1, 1, 2, 6]


def test_pyiqa_that_is_not_installed_is_asked_for(face_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(HonestFaceError, match=r"pip install 'honestface\[metrics\]'"):
        Metrics(analyzer(), MetricFiles(pyiqa=True))


def test_a_sheet_of_degradations(face_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    command = ["degrade-sheet", "--data", str(face_folder), "--out", str(out), "--count", "2", "--draws", "3"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    with Image.open(out) as sheet:
        assert sheet.size == (4 * 256, 2 * 256)


@pytest.mark.parametrize(
    ("out", "index", "message"),
    [
        ("sheet.xyz", "a.png,anna,train,1", "its name ends in none of .jpeg, .jpg, .png, .webp"),
        ("nowhere/sheet.png", "a.png,anna,train,1", "No such file or directory"),
        ("sheet.png", "b.png,anna,train,1", "b.png: no such file"),
        ("sheet.png", "a.png,anna,train,0", "has no sharp faces"),
    ],
)
def test_sheets_that_cannot_be_made(tmp_path: Path, out: str, index: str, message: str) -> None:
    Image.new("RGB", (512, 512)).save(tmp_path / "a.png")
    (tmp_path / "index.csv").write_text(f"file,identity,split,hq\n{index}\n")
    command = ["degrade-sheet", "--data", str(tmp_path), "--out", str(tmp_path / out), "--draws", "1"]
    error = CliRunner().invoke(app, command).exception
    assert isinstance(error, HonestFaceError) and message in str(error)


def test_the_first_people_are_held_out_if_training_held_them_out(
    face_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for person in ("1", "2", "3"):
        shutil.copytree(face_folder, tmp_path / person, ignore=shutil.ignore_patterns("*.csv", "*.npz", "[b-d]*"))
    seen = []

    def stop(bundle: object, faces: Faces, *_: object) -> None:
        seen.append({file.identity for file in faces.files})
        raise HonestFaceError("seen")

    monkeypatch.setattr("models.bundle.load_bundle", lambda *_: None)
    monkeypatch.setattr("training.evaluation.evaluate", stop)
    command = ["evaluate", "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    for more in ([], ["--held-out-people", "2"]):
        CliRunner().invoke(app, [*command, *more])
    assert seen == [{"1"}, {"1", "2"}]
    sheet = ["degrade-sheet", "--data", str(tmp_path), "--out", str(tmp_path / "sheet.png"), "--draws", "1"]
    result = CliRunner().invoke(app, [*sheet, "--split", "val", "--held-out-people", "2"])
    assert "4 faces" in result.output
