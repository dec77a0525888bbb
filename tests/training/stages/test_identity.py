from pathlib import Path

import numpy as np
import pytest
import torch

from models.geometry import arcface_crop
from models.identity_network import IdentityNetwork, IdentityNetworkConfig
from tests.training.one_step import one_step
from training.components import load_component
from training.faces import load_faces
from training.stages.identity import IdentityConfig, IdentityStage
from training.stages.landmarks import LandmarksConfig, LandmarksStage
from training.trained_weights import trained_weights


@pytest.fixture(scope="module")
def stage(face_folder: Path) -> IdentityStage:
    torch.manual_seed(0)
    return IdentityStage(IdentityConfig(data=face_folder, run=face_folder, steps=1, batch=4))


def test_views_come_with_the_teachers_unit_embedding(stage: IdentityStage) -> None:
    sample = stage.dataset[0]
    assert sample["image"].shape == (3, 112, 112)
    assert float(sample["descriptor"].norm()) == pytest.approx(1, abs=1e-5)


def test_more_pictures_of_held_out_people_are_left_out(face_folder: Path, tmp_path: Path) -> None:
    held_out = load_faces(face_folder, "val").descriptors()
    assert held_out is not None
    marks, descriptors = np.zeros((2, 68, 2), np.float32), np.stack([held_out[0], -held_out[0]])
    np.savez(tmp_path / "labels.npz", files=["carl.png", "stranger.png"], landmarks=marks, sface=descriptors)
    config = {"data": face_folder, "extra": (tmp_path,), "run": tmp_path, "steps": 1, "batch": 4}
    for stage in (IdentityStage(IdentityConfig(**config)), LandmarksStage(LandmarksConfig(**config))):
        assert [picture[0].name for picture in stage.dataset.pictures][4:] == ["stranger.png"]


def test_its_own_held_out_people_are_not_learned_from(face_folder: Path, tmp_path: Path) -> None:
    names = ["1/a.png", "2/a.png", "3/a.png"]
    for name in names:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).symlink_to(face_folder / "anna_0.png")
    np.savez(tmp_path / "labels.npz", files=names, landmarks=np.zeros((3, 68, 2)), sface=np.eye(3))
    stage = IdentityStage(IdentityConfig(data=tmp_path, held_out_people=2, run=tmp_path, steps=1, batch=4))
    assert [path.parent.name for path, *_ in stage.dataset.pictures] == ["3"]


def test_one_step(stage: IdentityStage) -> None:
    assert set(one_step(stage, (0, 1, 2, 3))) == {"cosine", "relation"}


def test_a_student_that_agrees_with_its_teacher_has_nothing_to_learn(
    stage: IdentityStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = torch.nn.functional.normalize(torch.randn(3, 128), dim=1)
    batch = {"image": torch.zeros(3, 3, 112, 112), "descriptor": teacher}
    for answer, cosine in ((teacher, 0.0), (-teacher, 2.0)):
        monkeypatch.setattr(stage.network, "describe", lambda images, answer=answer: answer)
        losses = stage.losses(batch, 0)
        assert float(losses["cosine"]) == pytest.approx(cosine, abs=1e-6)
        assert float(losses["relation"]) == pytest.approx(0, abs=1e-6)


def test_figures_and_export(stage: IdentityStage, tmp_path: Path) -> None:
    stage.network.eval()
    with torch.no_grad():
        figures = stage.validate()
    assert set(figures) == {"auc", "tar", "auc_degraded", "tar_degraded", "matching_angle"}
    assert all(0 <= value <= 1 for name, value in figures.items() if name != "matching_angle")
    assert 0 < figures["matching_angle"] < 180
    assert stage.pictures() is None
    stage.export(tmp_path)
    network = IdentityNetwork(IdentityNetworkConfig()).eval()
    load_component(network, tmp_path / "identity.safetensors")
    # what is exported is whitened: the mean of the training pictures, clean and degraded, is nobody
    with torch.no_grad():
        crops = torch.cat([arcface_crop(stage._views(file, seed)) for seed, file in enumerate(stage.faces.files)])
        mean = network.whitening(network.describe_both_ways(crops)).mean(0)
    assert mean.abs().max() < 1e-3 * network.whitening.bias.norm()


def test_the_whitening_is_not_trained(stage: IdentityStage) -> None:
    assert not any(parameter.requires_grad for parameter in stage.network.whitening.parameters())
    assert not any("whitening" in name for name in trained_weights(stage.network))
