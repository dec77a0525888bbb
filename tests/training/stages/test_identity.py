from pathlib import Path

import pytest
import torch

from models.identity_network import IdentityNetwork, IdentityNetworkConfig
from tests.training.one_step import one_step
from training.components import load_component
from training.stages.identity import IdentityConfig, IdentityStage


@pytest.fixture(scope="module")
def stage(face_folder: Path) -> IdentityStage:
    torch.manual_seed(0)
    return IdentityStage(IdentityConfig(data=face_folder, run=face_folder, steps=1, batch=4))


def test_views_come_with_the_teachers_unit_embedding(stage: IdentityStage) -> None:
    sample = stage.dataset[0]
    assert sample["image"].shape == (3, 112, 112)
    assert float(sample["descriptor"].norm()) == pytest.approx(1, abs=1e-5)


def test_one_step(stage: IdentityStage) -> None:
    assert set(one_step(stage, (0, 1, 2, 3))) == {"cosine", "relation"}


def test_a_student_that_agrees_with_its_teacher_has_nothing_to_learn(
    stage: IdentityStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = torch.nn.functional.normalize(torch.randn(3, 128), dim=1)
    batch = {"image": torch.zeros(3, 3, 112, 112), "descriptor": teacher}
    for answer, cosine in ((teacher, 0.0), (-teacher, 2.0)):
        monkeypatch.setattr(stage.network, "forward", lambda images, answer=answer: answer)
        losses = stage.losses(batch, 0)
        assert float(losses["cosine"]) == pytest.approx(cosine, abs=1e-6)
        assert float(losses["relation"]) == pytest.approx(0, abs=1e-6)


def test_figures_and_export(stage: IdentityStage, tmp_path: Path) -> None:
    stage.network.eval()
    with torch.no_grad():
        figures = stage.validate()
    assert set(figures) == {"auc", "tar", "auc_degraded", "tar_degraded", "angle"}
    assert all(0 <= value <= 1 for name, value in figures.items() if name != "angle")
    assert stage.pictures() is None
    stage.export(tmp_path)
    load_component(IdentityNetwork(IdentityNetworkConfig()), tmp_path / "identity.safetensors")
