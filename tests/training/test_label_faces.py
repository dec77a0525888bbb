import shutil
from pathlib import Path

import numpy as np
import pytest

from models.errors import PictureError
from tests.toy_faces import TEMPLATE, analyzer
from training.faces import load_faces
from training.label_faces import label_faces


def test_landmarks_are_found_and_loaded(face_folder: Path, tmp_path: Path) -> None:
    for number, person in enumerate(("anna", "ben", "carl")):
        folder = tmp_path / str((9, 10, 100)[number])
        folder.mkdir()
        shutil.copy(face_folder / f"{person}_0.png", folder / "a.png")
    assert label_faces(tmp_path, analyzer()) == 3
    held_out = load_faces(tmp_path, "val", held_out_people=2)
    assert [file.identity for file in held_out.files] == ["9", "10"]  # numbers in their order, not 10, 100, 9
    assert [file.identity for file in load_faces(tmp_path, "train", 2).files] == ["100"]
    marks = held_out.files[0].landmarks
    assert marks is not None and np.abs(marks - TEMPLATE).mean() < 3
    assert held_out.files[0].descriptor is None
    with pytest.raises(PictureError, match="not overwritten"):
        label_faces(tmp_path, analyzer())
