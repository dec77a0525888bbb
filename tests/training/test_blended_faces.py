from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.errors import WeightsError
from tests.training.test_onnx_recogniser import recogniser_file
from training.blended_faces import MARGIN, SIDE, Teacher, blend_faces
from training.faces import described_pictures, labelled_pictures


def test_blends_are_a_folder_for_the_identity_stage(face_folder: Path, tmp_path: Path) -> None:
    teacher = Teacher(recogniser_file(tmp_path / "teacher.onnx"))
    out = tmp_path / "blends"
    blend_faces(labelled_pictures(face_folder), teacher, out, count=3)
    found = described_pictures(out)
    assert [path.name for path, _, _ in found] == ["000000.jpg", "000001.jpg", "000002.jpg"]
    for path, landmarks, descriptor in found:
        with Image.open(path) as picture:
            assert picture.size == (SIDE, SIDE)
        assert landmarks.shape == (68, 2) and descriptor.shape == (5,)
        assert np.linalg.norm(descriptor) == pytest.approx(1, abs=1e-5)
        eyes = landmarks[36:48].mean(0)
        assert abs(eyes[0] - (MARGIN + 56)) < 6  # between the template's eyes


def test_a_blend_is_described_as_it_is(face_folder: Path, tmp_path: Path) -> None:
    teacher = Teacher(recogniser_file(tmp_path / "teacher.onnx"))
    blend_faces(labelled_pictures(face_folder), teacher, tmp_path, count=1)
    path, _, descriptor = described_pictures(tmp_path)[0]
    with Image.open(path) as picture:
        crop = np.asarray(picture)[MARGIN:-MARGIN, MARGIN:-MARGIN]
    assert float(teacher.describe([crop])[0] @ descriptor) > 0.99  # JPEG's loss aside


def test_no_recogniser(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="is no ONNX recogniser"):
        Teacher(tmp_path / "nowhere.onnx")
