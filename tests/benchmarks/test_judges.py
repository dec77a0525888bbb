"""The tables of the judges, on drawn faces and with stand-ins for the networks."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import judges as command
from benchmarks.judged_faces import restored_faces, restored_pairs, small_pictures
from benchmarks.judges import (
    DISTANCES,
    Judges,
    Table,
    fine_detail,
    judge_landmarks,
    judge_real,
    judge_restored,
    judge_verification,
)
from models.bundle import Bundle
from models.errors import HonestFaceError, PictureError
from models.geometry import Pixels
from tests.toy_faces import TEMPLATE, ToyGenerator, ToyIdentity, analyzer, photo
from training.evaluation import evaluate
from training.faces import Faces, load_faces
from training.images import psnr, to_image
from training.metrics import MetricFiles

#: Skins of the people held out; each has two pictures, the second a little darker.
PEOPLE = {"carl": (150, 190, 150), "dora": (180, 180, 130)}


class TintJudge:
    """In dlib's place: how many grey levels two foreheads differ by."""

    def angle(self, one: Pixels, other: Pixels) -> float:
        return float(abs(one[150:190, 230:280].mean() - other[150:190, 230:280].mean()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Aligned drawn faces with labels."""
    made = tmp_path_factory.mktemp("faces")
    rows, names = [], []
    for person, skin in PEOPLE.items():
        for number in range(2):
            names.append(f"{person}_{number}.png")
            darker = tuple(level - 12 * number for level in skin)
            Image.fromarray(photo(((255.5, 255.5), 512, cast(Any, darker)), size=(512, 512))).save(made / names[-1])
            rows.append({"file": names[-1], "identity": person, "split": "val", "hq": 1})
    write_index(made, rows)
    np.savez(made / "labels.npz", files=names, landmarks=np.repeat(TEMPLATE[None], len(names), 0).astype(np.float32))
    return made


@pytest.fixture
def faces(folder: Path) -> Faces:
    return load_faces(folder, "val")


@pytest.fixture
def bundle(folder: Path) -> Bundle:
    manifest = SimpleNamespace(name="toy", version="1")
    return Bundle(cast(Any, manifest), folder, cast(Any, ToyGenerator()), analyzer())


def write_index(folder: Path, rows: list[dict[str, Any]]) -> None:
    with (folder / "index.csv").open("w", newline="") as stream:
        index = csv.DictWriter(stream, list(rows[0]))
        index.writeheader()
        index.writerows(rows)


def test_what_was_not_measured_says_so() -> None:
    table = Table("Title", "Of nothing.", ("a", "b"), {"input": (1.5, None)})
    assert "| input | 1.5 | not measured |" in table.markdown()


def test_a_folder_without_files_measures_detail_alone(bundle: Bundle, faces: Faces, tmp_path: Path) -> None:
    identity, landmarks, detail = judge_restored(bundle, faces, "vqfr-v1", 2, Judges.of_folder(tmp_path))
    rows = ["input", "blind", "references", "wrong references"]
    assert list(identity.rows) == list(landmarks.rows) == list(detail.rows) == rows
    assert all(list(values) == [None] for values in identity.rows.values())
    assert all(list(values) == [None] * 3 for values in landmarks.rows.values())
    assert all(values[0] is not None and values[0] > 0 for values in detail.rows.values())
    assert identity.markdown().count("not measured") == 4 and "not measured" not in detail.markdown()


def test_a_bundle_without_references_has_two_rows(bundle: Bundle, faces: Faces) -> None:
    blind = Bundle(bundle.manifest, bundle.folder, cast(Any, ToyGenerator(takes_references=False)), bundle.analyzer)
    for table in judge_restored(blind, faces, "vqfr-v1", 2, Judges()):
        assert list(table.rows) == ["input", "blind"]


def test_the_judged_faces_are_those_of_the_evaluation(bundle: Bundle, faces: Faces) -> None:
    wanted = evaluate(bundle, faces, "vqfr-v1", 3, MetricFiles()).figures
    found: dict[str, list[float]] = {}
    for truth, crops in restored_faces(bundle, faces, "vqfr-v1", 3):
        for row, crop in crops.items():
            found.setdefault(row, []).append(float(psnr(to_image(crop)[None], to_image(truth)[None])[0]))
    for row, values in found.items():
        assert np.mean(values) == pytest.approx(wanted[row]["PSNR"])


def test_a_judge_sees_each_row_beside_the_truth(bundle: Bundle, faces: Faces) -> None:
    judges = Judges(dlib=cast(Any, TintJudge()))
    crops = [(crops, truth) for truth, crops in restored_faces(bundle, faces, "vqfr-v1", 2)]
    (identity, *_) = judge_restored(bundle, faces, "vqfr-v1", 2, judges)
    for row, values in identity.rows.items():
        assert values[0] == pytest.approx(np.mean([TintJudge().angle(c[row], truth) for c, truth in crops]))


def test_both_pictures_are_looked_at_in_the_box_of_the_truth(bundle: Bundle, faces: Faces) -> None:
    class Finder:
        def __init__(self) -> None:
            self.asked: list[Pixels] = []

        def box(self, face: Pixels) -> Pixels:
            return face

        def points(self, face: Pixels, box: Pixels) -> torch.Tensor:
            self.asked.append(box)
            return torch.rand(66, 2, generator=torch.Generator().manual_seed(int(face.astype(int).sum()))) * 100

    truth, crops = next(restored_faces(bundle, faces, "vqfr-v1", 2))
    finder = Finder()
    figures = Judges(openseeface=cast(Any, finder)).figures(crops | {"truth": truth}, truth)
    assert len(finder.asked) == 2 + len(crops) and all(box is truth for box in finder.asked)
    assert [figures["truth"][column] for column in DISTANCES] == pytest.approx([0, 0, 0])
    assert cast(float, figures["blind"]["ALD-e"]) > 1


def test_detail_is_of_what_is_finer_than_nine_pixels_in_the_middle() -> None:
    rng = np.random.default_rng(0)
    fine = np.full((512, 512, 3), 128, np.uint8)
    assert fine_detail(fine) == 0
    fine[:100] = rng.integers(0, 256, (100, 512, 3))  # hair
    assert fine_detail(fine) == 0
    coarse = np.broadcast_to((128 + 60 * np.sin(np.arange(512) / 30)).astype(np.uint8)[:, None, None], fine.shape)
    noise = (128 + 20 * rng.choice([-1, 1], (512, 512, 1))).astype(np.uint8).repeat(3, 2)
    assert fine_detail(noise) == pytest.approx(20, rel=0.02)
    assert fine_detail(coarse) < 1


@pytest.fixture
def real(tmp_path: Path, folder: Path) -> Path:
    """A small picture of carl's second photograph, turned over, and two that have no partner."""
    picture = Image.open(folder / "carl_1.png").resize((160, 160), Image.Resampling.BOX)
    canvas = Image.new("RGB", (200, 240), (90, 90, 90))
    canvas.paste(picture, (20, 40))
    canvas.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "a.png")
    others = {"mirrored": 0, "split": "val"}
    write_index(
        tmp_path,
        [
            {"file": "a.png", "identity": "carl", "same_photo_as_hq": 1, "mirrored": 1, "split": "val"},
            {"file": "gone.png", "identity": "carl", "same_photo_as_hq": 0, **others},
            {"file": "gone.png", "identity": "nobody", "same_photo_as_hq": 1, **others},
        ],
    )
    return tmp_path


def test_a_small_picture_is_turned_and_lies_on_the_photograph_of_its_shot(
    bundle: Bundle, faces: Faces, real: Path
) -> None:
    pictures = small_pictures(real, faces, "val")
    assert [picture.identity for picture in pictures] == ["carl"]
    (pair,) = restored_pairs(bundle, faces, pictures, "cpu")
    assert np.array_equal(pair.truth, faces.enlarged(1))
    assert list(pair.rows) == ["input", "blind", "references"]
    middle = np.s_[100:400, 100:400]
    assert np.abs(pair.rows["input"][middle].astype(float) - pair.truth[middle]).mean() < 4


def test_pairs_with_references_are_counted_by_themselves(bundle: Bundle, faces: Faces, real: Path) -> None:
    (pair,) = restored_pairs(bundle, faces, small_pictures(real, faces, "val"), "cpu")
    alone = type(pair)(pair.truth, {row: crop for row, crop in pair.rows.items() if row != "references"})
    table = judge_real(iter([pair, alone]), Judges(dlib=cast(Any, TintJudge())))
    assert list(table.rows) == [
        "2 pairs: input",
        "2 pairs: blind",
        *(f"1 with references: {row}" for row in ("input", "blind", "references")),
    ]
    assert all(values[0] is None and values[1] is not None for values in table.rows.values())


def test_without_pairs_nothing_is_made_up() -> None:
    assert "not measured | not measured" in judge_real(iter(()), Judges()).markdown()


def test_an_index_without_partners_is_told(faces: Faces, tmp_path: Path) -> None:
    write_index(tmp_path, [{"file": "a.png", "identity": "x", "split": "val", "same_photo_as_hq": 1, "mirrored": 0}])
    with pytest.raises(PictureError, match="no small picture"):
        small_pictures(tmp_path, faces, "val")


def test_identities_are_verified_by_both_encoders(bundle: Bundle, faces: Faces) -> None:
    class ByPlace(ToyIdentity):
        """Goes by the place in the list alone: every second picture shows one person, here the wrong one."""

        calls = 0

        def embed(self, faces: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return torch.nn.functional.one_hot(torch.tensor([self.calls % 2]), 3).float()

    table = judge_verification(bundle, faces, Judges(sface=cast(Any, ByPlace())))
    assert list(table.rows) == [
        f"{who}, {seen}" for who in ("toy", "SFace") for seen in ("clean", "vqfr-v1", "vqfr-v2")
    ]
    assert table.rows["toy, clean"] == pytest.approx((1, 100, 0))
    assert cast(float, table.rows["SFace, clean"][0]) < 0.5
    one = judge_verification(bundle, faces, Judges(), 1)
    assert list(one.rows["toy, clean"]) == [None] * 3  # no pairs
    alone = judge_verification(bundle, faces, Judges(), 3)
    assert list(alone.rows["SFace, vqfr-v1"]) == [None] * 3 and "3 held-out pictures" in alone.about


def test_landmarks_are_held_to_the_labels(bundle: Bundle, faces: Faces) -> None:
    finder = SimpleNamespace(points=lambda picture: torch.zeros(66, 2))
    embedded, other = judge_landmarks(bundle, faces, Judges(openseeface=cast(Any, finder))).rows.values()
    assert cast(float, embedded[0]) < 1 and cast(float, other[0]) > 100
    assert list(judge_landmarks(bundle, faces, Judges()).rows.values())[1] == [None, None]


def test_the_command_writes_what_it_prints(
    bundle: Bundle, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "load_bundle", lambda *_: bundle)
    files = ["--json", str(tmp_path / "a.json"), "--markdown", str(tmp_path / "a.md")]
    where = ["--data", str(folder), "--teachers", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["judges", *where, "--count", "2", "--pictures", "4", *files])
    command.main()
    said, written = capsys.readouterr().out, (tmp_path / "a.md").read_text()
    assert said.strip() == written.strip() and written.count("**") == 12
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["bundle"] == "toy 1" and found["preset"] == "vqfr-v2"
    assert found["tables"][0]["rows"]["blind"] == [None]


def test_a_folder_that_is_not_there_is_told(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HonestFaceError, match="no folder"):
        Judges.of_folder(tmp_path / "gone")
    monkeypatch.setattr("sys.argv", ["judges", "--data", str(folder), "--teachers", str(tmp_path / "gone")])
    with pytest.raises(SystemExit, match="no folder"):
        command.main()
    monkeypatch.setattr("sys.argv", [*command_line(folder, tmp_path), "--json", str(tmp_path / "gone" / "a.json")])
    with pytest.raises(SystemExit):
        command.main()


def command_line(folder: Path, teachers: Path) -> list[str]:
    return ["judges", "--data", str(folder), "--teachers", str(teachers)]
