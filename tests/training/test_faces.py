from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.errors import PictureError
from models.geometry import Pixels
from training import decoded_pictures
from training import faces as faces_module
from training.decoded_pictures import read_pixels
from training.faces import Faces, all_files, load_faces
from training.labelled_pictures import SAME_PERSON, described_pictures, labelled_pictures
from training.restoration_data import RestorationDataset


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


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the pictures that were decoded, each time."""
    names: list[str] = []

    def read(path: Path) -> Pixels:
        names.append(path.stem)
        return read_pixels(path)

    monkeypatch.setattr(faces_module, "read_pixels", read)
    monkeypatch.setattr(decoded_pictures, "read_pixels", read)
    return names


def test_pictures_are_compared_without_being_kept(face_folder: Path, decoded: list[str]) -> None:
    faces = load_faces(face_folder, "train")
    for _ in range(2):
        assert faces.others(0) == [1]
    assert sorted(decoded) == ["anna_0", "anna_1"]
    faces.pixels(0)
    assert sorted(decoded) == ["anna_0", "anna_0", "anna_1"]


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
        with pytest.raises(PictureError, match=f"{folder}: the {split} split has no face pictures"):
            load_faces(folder, split)


def test_hidden_and_empty_folders_are_nobodys(tmp_path: Path) -> None:
    for name in (".cache/a.png", "0/notes.txt", "1/._a.png", "2/a.png", "3/a.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name, "PNG")
    (tmp_path / "00").mkdir()
    assert [file.identity for file in load_faces(tmp_path, "val", 1).files] == ["2"]
    assert [file.identity for file in load_faces(tmp_path, "train").files] == ["3"]


def test_ways_to_say_that_a_file_is_sharp(tmp_path: Path) -> None:
    index = tmp_path / "index.csv"
    said = {"1": True, "True": True, "true": True, "0": False, "False": False}
    rows = "".join(f"{n}.png,anna,train,{hq}\n" for n, hq in enumerate(said))
    index.write_text(f"file,identity,split,hq\n{rows}")
    assert [file.hq for file in all_files(tmp_path)] == list(said.values())
    index.write_text("file,identity,split,hq\na.png,anna,train,yes\n")
    with pytest.raises(PictureError, match=r"index\.csv: hq of a\.png is 'yes', must be 1 or 0"):
        all_files(tmp_path)


def test_a_split_without_a_sharp_face(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text("file,identity,split,hq\na.png,anna,val,0\n")
    faces = load_faces(tmp_path, "val")  # to be compared it may serve
    with pytest.raises(PictureError, match=f"{tmp_path}: the val split has no sharp faces"):
        RestorationDataset(faces, ["vqfr-v2"], 1)


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


def written_labels(folder: Path, files: list[str], sface: object = None) -> None:
    described = {} if sface is None else {"sface": np.array(sface, np.float32)}
    np.savez(
        folder / "labels.npz", files=files, landmarks=np.zeros((len(files), 68, 2)), allow_pickle=False, **described
    )


def test_who_is_like_a_person_held_out_elsewhere_is_left_out(tmp_path: Path) -> None:
    """Descriptors whose cosine to the first of two held-out people is known; lengths do not count."""
    near, far = ([cosine, (1 - cosine**2) ** 0.5] for cosine in (SAME_PERSON + 0.01, SAME_PERSON - 0.01))
    held_out = np.array([[3, 0], [0, -1]], np.float32)
    written_labels(tmp_path, ["near.png", "far.png"], [near, far])
    assert [path.name for path, *_ in described_pictures(tmp_path, apart_from=held_out)] == ["far.png"]
    assert [path.name for path, _ in labelled_pictures(tmp_path, apart_from=held_out)] == ["far.png"]
    with pytest.raises(PictureError, match="another kind"):
        described_pictures(tmp_path, apart_from=np.ones((2, 3), np.float32))
    with pytest.raises(PictureError, match="no pictures but of people who are held out"):
        described_pictures(tmp_path, apart_from=np.array([near, far], np.float32))
    written_labels(tmp_path, ["near.png", "far.png"])  # nothing tells who they are
    assert len(labelled_pictures(tmp_path, apart_from=held_out)) == 2


def test_descriptors_of_a_split(face_folder: Path, tmp_path: Path) -> None:
    found = load_faces(face_folder, "val").descriptors()
    assert found is not None and found.shape == (4, 128)
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "index.csv").write_text("file,identity,split,hq\na.png,anna,train,1\n")
    assert load_faces(tmp_path, "train").descriptors() is None


@pytest.mark.parametrize(("held_out_people", "held_out"), [(None, ["1"]), (2, ["1", "2"])])
def test_labels_are_split_as_faces_are(tmp_path: Path, held_out_people: int | None, held_out: list[str]) -> None:
    names = ["10/a.png", "1/a.png", "2/a.png", "b.png"]
    for name in names[:3]:
        (tmp_path / name).parent.mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name)
    written_labels(tmp_path, names, np.eye(4))
    train = [path.relative_to(tmp_path).as_posix() for path, *_ in described_pictures(tmp_path, held_out_people)]
    assert train == [name for name in names if name.split("/")[0] not in held_out]  # b.png is in no person's folder
    for split in ("train", "val"):
        files = [file.path for file in load_faces(tmp_path, split, held_out_people).files]
        assert set(files) == {path for path, _ in labelled_pictures(tmp_path, split, held_out_people)} - {
            tmp_path / "b.png"
        }


def test_an_index_and_a_number_of_people_held_out(face_folder: Path) -> None:
    with pytest.raises(PictureError, match=r"index\.csv says who is held out"):
        load_faces(face_folder, "val", 1)
    with pytest.raises(PictureError, match=r"index\.csv says who is held out"):
        labelled_pictures(face_folder, held_out_people=1)


@pytest.mark.parametrize("name", ["../a.png", "/etc/a.png", "b/../../a.png", "", "."])
def test_names_that_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    written_labels(tmp_path, [name])
    with pytest.raises(PictureError, match=r"labels\.npz names .*no file of its folder"):
        labelled_pictures(tmp_path)
    (tmp_path / "labels.npz").unlink()
    (tmp_path / "index.csv").write_text(f"file,identity,split,hq\n{name},anna,train,1\n")
    with pytest.raises(PictureError, match=r"index\.csv names .*no file of its folder"):
        all_files(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"file,identity\na.png,anna\n", "has no column split, hq"),
        (b"", "has no column file, split"),
        (b"file,identity,split,hq\na.png,anna\n", "picture 1 has too few columns"),
        (b"file,identity,split,hq\n\xff\xfe,anna,train,1\n", "cannot be read"),
    ],
)
def test_a_damaged_index(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "index.csv").write_bytes(content)
    with pytest.raises(PictureError, match=message):
        all_files(tmp_path)


def test_damaged_labels(tmp_path: Path) -> None:
    path = tmp_path / "labels.npz"
    written_labels(tmp_path, ["a.png"])
    whole = path.read_bytes()
    np.savez(path, files=np.array([{}, None], dtype=object), landmarks=np.zeros((2, 68, 2)))
    pickled = path.read_bytes()
    for content in (b"", b"no labels", whole[:-40], whole[: len(whole) // 2] + bytes(len(whole) // 2), pickled):
        path.write_bytes(content)
        with pytest.raises(PictureError, match=r"cannot be read: it is damaged, or no file of labels$"):
            labelled_pictures(tmp_path)
    np.savez(path, files=["a.png"], landmarks=np.zeros((2, 68, 2)))
    with pytest.raises(PictureError, match=r"1 files, but landmarks of shape \[2, 68, 2\]"):
        labelled_pictures(tmp_path)


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(tmp_path / "whole.png")
    for name, content in (("text.png", b"no picture"), ("half.png", (tmp_path / "whole.png").read_bytes()[:2000])):
        (tmp_path / name).write_bytes(content)
    names = {"text.png": "is no picture", "half.png": "is no picture", "nowhere.png": "no such file"}
    (tmp_path / "index.csv").write_text("file,identity,split,hq\n" + "".join(f"{n},anna,train,1\n" for n in names))
    faces = Faces(all_files(tmp_path))
    for index, (name, message) in enumerate(names.items()):
        with pytest.raises(PictureError, match=f"{name}.*{message}"):
            faces.pixels(index)
