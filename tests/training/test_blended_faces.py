from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from models.errors import PictureError, WeightsError
from tests.training.test_onnx_recogniser import recogniser_file, sface_like
from training.blended_faces import MARGIN, SIDE, blend_faces, pictures_to_blend
from training.faces import load_faces
from training.labelled_pictures import described_pictures, labelled_pictures
from training.labels import write_labels


def test_blends_are_a_folder_for_the_identity_stage(face_folder: Path, tmp_path: Path) -> None:
    teacher = sface_like(recogniser_file(tmp_path / "teacher.onnx"))
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
    teacher = sface_like(recogniser_file(tmp_path / "teacher.onnx"))
    blend_faces(labelled_pictures(face_folder), teacher, tmp_path, count=1)
    path, _, descriptor = described_pictures(tmp_path)[0]
    with Image.open(path) as picture:
        crop = np.asarray(picture)[MARGIN:-MARGIN, MARGIN:-MARGIN]
    assert float(teacher.describe(crop) @ descriptor) > 0.99  # JPEG's loss aside


@pytest.mark.parametrize("name", ["labels.npz", "landmarks.npz"])
def test_labels_that_are_there_are_not_overwritten(face_folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(PictureError, match=f"{name} exists: it is not overwritten"):
        blend_faces(labelled_pictures(face_folder), cast(Any, None), tmp_path, count=1)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_labels_are_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path, **values: object) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", broken)
    with pytest.raises(OSError, match="no space"):
        write_labels(tmp_path, ["a.png"], [np.zeros((68, 2))], [])
    assert not (tmp_path / "labels.npz").exists()


def test_no_recogniser(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="is no ONNX network"):
        sface_like(tmp_path / "nowhere.onnx")


def test_people_whom_the_first_folder_holds_out_are_not_blended(face_folder: Path, tmp_path: Path) -> None:
    held_out = load_faces(face_folder, "val").descriptors()
    assert held_out is not None
    descriptors = np.stack([held_out[0], -held_out[0]])
    marks = np.zeros((2, 68, 2), np.float32)
    np.savez(tmp_path / "labels.npz", files=["carl.png", "stranger.png"], landmarks=marks, sface=descriptors)
    found = [path.name for path, _ in pictures_to_blend([face_folder, tmp_path])]
    assert found == [*(path.name for path, _ in labelled_pictures(face_folder)), "stranger.png"]


def test_whom_a_further_folder_shows_must_be_known(face_folder: Path, tmp_path: Path) -> None:
    for name in ("anna", "ben"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes((face_folder / f"{name}_0.png").read_bytes())
    np.savez(tmp_path / "labels.npz", files=["anna/0.png", "ben/0.png"], landmarks=np.zeros((2, 68, 2)))
    assert [path.parent.name for path, _ in pictures_to_blend([tmp_path])] == ["ben"]
    with pytest.raises(PictureError, match="no sface descriptors of whom it holds out"):
        pictures_to_blend([tmp_path, face_folder])
    with pytest.raises(PictureError, match="has no sface"):
        pictures_to_blend([face_folder, tmp_path])
