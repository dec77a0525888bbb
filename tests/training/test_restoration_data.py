from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.toy_faces import ToyLandmarks
from training.faces import FaceFile, Faces, load_faces
from training.restoration_data import RestorationDataset
from training.stage import Batch


@pytest.fixture(scope="module")
def faces(face_folder: Path) -> Faces:
    return load_faces(face_folder, "train")


def skin(image: Tensor) -> Tensor:
    """The forehead's colour in grey levels."""
    return (image[:, 150:190, 230:280].mean((1, 2)) + 1) * 127.5


def red_and_green(image: Tensor) -> tuple[Tensor, Tensor]:
    """Where the drawn face's red and green eye are."""
    points = ToyLandmarks().landmarks(image[None]).points[0]
    return points[36:42].mean(0), points[42:48].mean(0)


def mirrored_and_not(dataset: RestorationDataset) -> tuple[Batch, Batch]:
    """The first sample of each kind: the red eye is on the right only in a mirrored picture."""
    samples = [dataset[number] for number in range(12)]
    turned = [bool(red_and_green(sample["truth"])[0][0] > 256) for sample in samples]
    return samples[turned.index(True)], samples[turned.index(False)]


def test_a_pair(faces: Faces) -> None:
    sample = RestorationDataset(faces, ["vqfr-v2"], seed=0)[5]
    assert sorted(sample) == ["lq", "truth"]
    assert sample["truth"].shape == sample["lq"].shape == (3, 512, 512)
    assert float(sample["truth"].min()) >= -1 and float(sample["truth"].max()) <= 1
    assert not torch.equal(sample["truth"], sample["lq"])


def test_the_number_is_the_seed(faces: Faces) -> None:
    dataset = RestorationDataset(faces, ["vqfr-v1", "wide"], seed=0, references=2)
    first, again = dataset[3], dataset[3]
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["lq"], RestorationDataset(faces, ["vqfr-v1", "wide"], 1, 2)[3]["lq"])
    assert len({float(dataset[number]["lq"].mean()) for number in range(4)}) == 4


def test_references_show_the_same_person_mirrored_alike(faces: Faces) -> None:
    dataset = RestorationDataset(faces, ["vqfr-v1"], seed=0, references=3, reference_dropout=0.0)
    for sample in mirrored_and_not(dataset):
        assert sample["reference_images"].shape == (3, 3, 512, 512)
        assert sample["reference_present"].tolist() == [True, False, False]  # each person has one more picture
        reference = sample["reference_images"][0]
        assert not torch.equal(reference, sample["truth"])
        assert float((skin(reference) - skin(sample["truth"])).abs().max()) == pytest.approx(12, abs=1)
        assert (red_and_green(reference)[0] - red_and_green(sample["truth"])[0]).norm() < 1
        assert not sample["reference_images"][1:].any()


def test_a_blurred_picture_is_a_reference_but_never_a_target(faces: Faces) -> None:
    dataset = RestorationDataset(faces, ["vqfr-v1"], seed=0, references=1, reference_dropout=0.0)
    ben_1 = torch.tensor([150.0, 150.0, 190.0]) - 12
    samples = [dataset[number] for number in range(16)]
    assert all((skin(sample["truth"]) - ben_1).abs().max() > 5 for sample in samples)
    assert any((skin(sample["reference_images"][0]) - ben_1).abs().max() < 2 for sample in samples)


def test_dropout_leaves_all_slots_empty(faces: Faces) -> None:
    dataset = RestorationDataset(faces, ["vqfr-v1"], seed=0, references=2, reference_dropout=1.0)
    sample = dataset[0]
    assert not sample["reference_present"].any() and not sample["reference_images"].any()
    half = RestorationDataset(faces, ["vqfr-v1"], seed=0, references=1, reference_dropout=0.5)
    assert {bool(half[number]["reference_present"].any()) for number in range(10)} == {True, False}


def test_a_wrong_person_is_somebody_else(faces: Faces) -> None:
    dataset = RestorationDataset(faces, ["vqfr-v1"], 0, references=1, reference_dropout=0.0, wrong_person=1.0)
    present = 0
    for number in range(8):
        sample = dataset[number]
        if sample["reference_present"][0]:
            present += 1
            assert float((skin(sample["reference_images"][0]) - skin(sample["truth"])).abs().max()) > 25
    assert present >= 2


def test_who_has_other_pictures_is_drawn_more_often(faces: Faces) -> None:
    loner = FaceFile(faces.files[0].path, "loner", "train", True, faces.files[0].landmarks, None)
    mixed = Faces([*faces.files, loner])
    assert RestorationDataset(mixed, ["vqfr-v1"], 0).targets == [0, 1, 2, 4]
    drawn = RestorationDataset(mixed, ["vqfr-v1"], 0, references=1).targets
    assert drawn.count(4) == 1 and drawn.count(0) == drawn.count(2) == 3


def test_who_has_no_other_pictures_can_be_left_out(faces: Faces) -> None:
    loner = FaceFile(faces.files[0].path, "loner", "val", True, None, None)
    mixed = Faces([loner, *faces.files])
    dataset = RestorationDataset(mixed, ["vqfr-v1"], 0, references=1, reference_dropout=0.0, loners=False)
    assert dataset.targets == [1, 2, 3]
    samples = [dataset[number] for number in range(12)]
    assert all(sample["reference_present"][0] for sample in samples)
    anna = [float(skin(sample["truth"])[0]) > 160 for sample in samples]  # her skin is redder than ben's
    assert [int(sample["person"]) for sample in samples] == [1 if is_anna else 2 for is_anna in anna]
    assert len(set(anna)) == 2


def test_all_are_drawn_where_nobody_has_other_pictures(faces: Faces) -> None:
    alone = Faces([faces.files[0], faces.files[2]])
    assert RestorationDataset(alone, ["vqfr-v1"], 0, references=1, loners=False).targets == [0, 1]
