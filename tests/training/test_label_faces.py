import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.errors import PictureError
from models.geometry import arcface_crop
from tests.toy_faces import TEMPLATE, analyzer
from tests.training.test_onnx_recogniser import recogniser_file, sface_like
from training.decoded_pictures import read_pixels
from training.faces import load_faces
from training.images import to_image, to_picture
from training.label_faces import label_faces
from training.stages.identity import IdentityConfig, IdentityStage


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


def test_a_teacher_makes_a_folder_per_person_fit_for_the_identity_stage(face_folder: Path, tmp_path: Path) -> None:
    teacher = sface_like(recogniser_file(tmp_path / "teacher.onnx"))
    data = tmp_path / "faces"
    for person, side in (("anna", 256), ("carl", 512)):
        (data / person).mkdir(parents=True)
        with Image.open(face_folder / f"{person}_0.png") as picture:
            picture.resize((side, side)).save(data / person / "a.png")
    assert label_faces(data, analyzer(), teacher) == 2
    stage = IdentityStage(IdentityConfig(data=data, run=tmp_path, steps=1, batch=1))
    ((path, marks, descriptor),) = stage.dataset.pictures
    assert path.parent.name == "carl" and np.abs(marks - TEMPLATE).mean() < 3
    (crop,) = arcface_crop(to_image(read_pixels(path))[None])
    assert float(teacher.describe(to_picture(crop)) @ descriptor) > 0.98
    held_out = load_faces(data, "val").descriptors()
    assert held_out is not None and np.linalg.norm(held_out) == pytest.approx(1)


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=f"{tmp_path} has no face pictures"):
        label_faces(tmp_path, analyzer())
