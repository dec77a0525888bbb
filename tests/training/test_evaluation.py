from pathlib import Path
from typing import Any, cast

import pytest
from PIL import Image

from models.bundle import Bundle
from models.errors import PictureError
from tests.toy_faces import ToyGenerator, analyzer
from training.evaluation import ROWS, Evaluation, evaluate, save_sheet
from training.faces import Faces, load_faces


@pytest.fixture(scope="module")
def found(face_folder: Path) -> Evaluation:
    """Two of the four held-out pictures, restored by toy tools; the generator brightens, so it makes things worse."""
    bundle = Bundle(cast(Any, None), face_folder, cast(Any, ToyGenerator()), analyzer())
    return evaluate(bundle, load_faces(face_folder, "val"), "vqfr-v1", 3, None, "none")


def test_every_row_has_every_figure(found: Evaluation) -> None:
    assert tuple(found.figures) == ROWS
    columns = ["PSNR", "SSIM", "Deg. (embedded)", "L2-LD (68)", "ALD-e", "ALD-m"]
    assert all(list(values) == columns for values in found.figures.values())
    assert found.faces == 3


def test_brighter_is_further_from_the_truth(found: Evaluation) -> None:
    psnr = [found.figures[row]["PSNR"] for row in ("input", "blind", "references")]
    assert psnr == sorted(psnr, reverse=True) and psnr[2] < psnr[0] - 3


def test_strangers_are_flagged_and_the_same_person_is_not(found: Evaluation) -> None:
    assert found.flagged_right == 0
    assert found.flagged_wrong > 0.5


def test_tables_and_sheet(found: Evaluation, tmp_path: Path) -> None:
    lines = found.markdown().splitlines()
    assert lines[0].startswith("| | PSNR |") and lines[2].startswith("| input |")
    assert "3 faces with references" in lines[-1]
    assert len(found.csv().splitlines()) == 5
    save_sheet(found.sheet, tmp_path / "sheet.png", side=64)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (5 * 64, 3 * 64)


def test_one_person_alone_has_no_stranger(face_folder: Path) -> None:
    carl = Faces([file for file in load_faces(face_folder, "val").files if file.identity == "carl"])
    bundle = Bundle(cast(Any, None), face_folder, cast(Any, ToyGenerator()), analyzer())
    with pytest.raises(PictureError, match="at least two people"):
        evaluate(bundle, carl, "vqfr-v1", 2, None, "none")
