import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from models.errors import PictureError
from training.cli import app
from training.faces import load_faces
from training.packed_data import pack_data


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def test_a_copy_loads_as_the_original_does(face_folder: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["pack-data", "--data", str(face_folder), "--out", str(tmp_path / "packed")])
    assert result.exit_code == 0 and "8 pictures of 4 people" in result.output
    for split in ("train", "val"):
        packed, original = load_faces(tmp_path / "packed", split), load_faces(face_folder, split)
        known = {file.path.name: file for file in original.files}
        assert {file.path.name for file in packed.files} == set(known)
        for file in packed.files:
            source = known[file.path.name]
            assert file.path.read_bytes() == source.path.read_bytes()
            assert (file.identity, file.hq) == (source.identity, source.hq)
            assert file.landmarks is not None and (file.landmarks == source.landmarks).all()
            assert file.descriptor is not None and (file.descriptor == source.descriptor).all()


def test_labels_that_one_picture_lacks_stay_with_the_others(face_folder: Path, tmp_path: Path) -> None:
    some = tmp_path / "faces"
    shutil.copytree(face_folder, some)
    with np.load(some / "labels.npz") as labels:
        shorter = {name: labels[name][1:] for name in labels.files}
    np.savez(some / "labels.npz", allow_pickle=False, **shorter)
    pack_data(some, tmp_path / "packed", 60)
    packed = [file for split in ("train", "val") for file in load_faces(tmp_path / "packed", split).files]
    for field in ("landmarks", "descriptor"):
        assert sum(getattr(file, field) is None for file in packed) == 1 < len(packed)


def test_what_does_not_fit_is_left_out_person_by_person(face_folder: Path, tmp_path: Path) -> None:
    extra = tmp_path / "faces"
    shutil.copytree(face_folder, extra)
    allowance = 0.8 * megabytes(extra)
    kept = pack_data(extra, tmp_path / "packed", allowance)
    assert megabytes(tmp_path / "packed") <= allowance
    assert {file.identity for file in kept if file.split == "val"} == {"carl", "dora"}
    people = [file.identity for file in kept]
    assert len(set(people)) == 3 and all(people.count(name) == 2 for name in people)
    with pytest.raises(PictureError, match="not empty"):
        pack_data(extra, tmp_path / "packed", allowance)
    with pytest.raises(PictureError, match="do not hold the pictures of one person"):
        pack_data(extra, tmp_path / "none", 1e-6)


def test_a_folder_for_each_person(face_folder: Path, tmp_path: Path) -> None:
    for name in ("anna", "ben"):
        (tmp_path / "faces" / name).mkdir(parents=True)
        shutil.copy(face_folder / f"{name}_0.png", tmp_path / "faces" / name / "0.png")
    pack_data(tmp_path / "faces", tmp_path / "packed", 60)
    assert [file.identity for file in load_faces(tmp_path / "packed", "val").files] == ["anna"]
    assert not (tmp_path / "packed" / "labels.npz").exists()


def test_the_split_of_training_is_kept(face_folder: Path, tmp_path: Path) -> None:
    for name in ("anna", "ben", "carl"):
        (tmp_path / "faces" / name).mkdir(parents=True)
        shutil.copy(face_folder / f"{name}_0.png", tmp_path / "faces" / name / "0.png")
    command = ["pack-data", "--data", str(tmp_path / "faces"), "--out", str(tmp_path / "packed"), "--held-out-people"]
    result = CliRunner().invoke(app, [*command, "2"])
    assert result.exit_code == 0, result.output
    assert [file.identity for file in load_faces(tmp_path / "packed", "val").files] == ["anna", "ben"]


def test_both_splits_need_people(face_folder: Path, tmp_path: Path) -> None:
    for name in ("anna", "ben"):
        (tmp_path / "faces" / name).mkdir(parents=True)
        shutil.copy(face_folder / f"{name}_0.png", tmp_path / "faces" / name / "0.png")
    with pytest.raises(PictureError, match="have no pictures of the train split"):
        pack_data(tmp_path / "faces", tmp_path / "packed", 60, held_out_people=2)
    assert not (tmp_path / "packed").exists()


def test_what_cannot_be_copied(tmp_path: Path) -> None:
    index = tmp_path / "index.csv"
    index.write_text("file,identity,split,hq\nnowhere.png,anna,val,1\n")
    with pytest.raises(PictureError, match=r"nowhere\.png: No such file"):
        pack_data(tmp_path, tmp_path / "packed", 60)
    with pytest.raises(PictureError, match="Not a directory"):
        pack_data(tmp_path, index, 60)
    (tmp_path / "secret.png").touch()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "index.csv").write_text("file,identity,split,hq\n../secret.png,anna,val,1\n")
    with pytest.raises(PictureError, match="no file of its folder"):
        pack_data(tmp_path / "data", tmp_path / "deep" / "packed", 60)
    assert not (tmp_path / "deep").exists()
