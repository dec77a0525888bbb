from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.errors import PictureError
from training.faces import described_pictures, labelled_pictures, load_faces


def test_a_csv_index_with_labels(face_folder: Path) -> None:
    train, val = load_faces(face_folder, "train"), load_faces(face_folder, "val")
    assert [file.path.name for file in train.files] == ["anna_0.png", "anna_1.png", "ben_0.png", "ben_1.png"]
    assert {file.identity for file in val.files} == {"carl", "dora"}
    assert train.targets == [0, 1, 2]  # ben's second picture is only good as a reference
    landmarks, descriptor = train.files[0].landmarks, train.files[0].descriptor
    assert landmarks is not None and landmarks.shape == (68, 2)
    assert descriptor is not None and descriptor.shape == (128,)


def test_other_pictures_of_the_same_person(face_folder: Path) -> None:
    faces = load_faces(face_folder, "train")
    assert [faces.others(index) for index in range(4)] == [[1], [0], [3], [2]]


def test_the_same_photograph_under_another_name_is_no_other_one(tmp_path: Path) -> None:
    spots = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
    picture = spots.resize((64, 64), Image.Resampling.BICUBIC)
    (tmp_path / "anna").mkdir()
    picture.save(tmp_path / "anna" / "a.png")
    picture.resize((80, 80), Image.Resampling.BICUBIC).save(tmp_path / "anna" / "b.jpg", quality=90)
    picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "anna" / "c.png")
    faces = load_faces(tmp_path, "val")
    assert [faces.others(index) for index in range(3)] == [[2], [2], [0, 1]]


def test_pixels_are_decoded_once(face_folder: Path) -> None:
    faces = load_faces(face_folder, "train")
    assert faces.pixels(0).shape == (512, 512, 3)
    assert faces.pixels(0) is faces.pixels(0)


def test_an_index_without_labels(face_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_bytes((face_folder / "index.csv").read_bytes())
    file = load_faces(tmp_path, "train").files[0]
    assert file.landmarks is None and file.descriptor is None


def test_a_folder_for_each_person(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"person{number:02}").mkdir()
        for name in ("b.png", "a.JPG", "notes.txt"):
            Image.new("L", (8, 8)).save(tmp_path / f"person{number:02}" / name, "PNG")
    (tmp_path / "readme.md").touch()
    train, val = load_faces(tmp_path, "train"), load_faces(tmp_path, "val")
    assert {file.identity for file in val.files} == {"person00", "person10"}
    assert len(train.files) == 20 and train.targets == list(range(20))
    assert [file.path.name for file in val.files[:2]] == ["a.JPG", "b.png"]
    assert val.pixels(0).shape == (8, 8, 3)


def test_nothing_there(face_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="no folder"):
        load_faces(tmp_path / "nowhere", "train")
    for folder, split in ((tmp_path, "train"), (face_folder, "test")):
        with pytest.raises(PictureError, match="no face pictures"):
            load_faces(folder, split)


def test_labelled_and_described_pictures(face_folder: Path) -> None:
    train = labelled_pictures(face_folder)
    assert [path.name for path, _ in train] == ["anna_0.png", "anna_1.png", "ben_0.png", "ben_1.png"]
    assert len(labelled_pictures(face_folder, "val")) == 4
    path, landmarks, descriptor = described_pictures(face_folder)[1]
    assert path.name == "anna_1.png" and landmarks.shape == (68, 2) and descriptor.shape == (128,)


def test_pictures_that_no_index_names_are_for_training(tmp_path: Path) -> None:
    np.savez(tmp_path / "landmarks.npz", files=["a.png"], landmarks=np.zeros((1, 68, 2)))
    assert [path.name for path, _ in labelled_pictures(tmp_path)] == ["a.png"]
    with pytest.raises(PictureError, match="no pictures of the val split"):
        labelled_pictures(tmp_path, "val")
    with pytest.raises(PictureError, match="has no sface"):
        described_pictures(tmp_path)


def test_a_folder_without_labels(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"no labels\.npz"):
        labelled_pictures(tmp_path)
