from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.errors import PictureError
from models.landmark_network import LandmarkNetwork, LandmarkNetworkConfig
from tests.toy_faces import TEMPLATE
from tests.training.one_step import one_step
from training.components import load_component
from training.faces import Faces
from training.stages.landmarks import LandmarksConfig, LandmarksStage, gaussian_heatmaps


@pytest.fixture(scope="module")
def stage(face_folder: Path) -> LandmarksStage:
    torch.manual_seed(0)
    return LandmarksStage(LandmarksConfig(data=face_folder, extra=(face_folder,), run=face_folder, steps=1, batch=2))


def test_all_labelled_pictures_are_used(stage: LandmarksStage) -> None:
    assert len(stage.dataset.pictures) == 4 + 4  # once from `data`, once from `extra`
    sample = stage.dataset[0]
    assert sample["image"].shape == (3, 192, 192) and sample["points"].shape == (68, 2)
    assert 0.2 < float(sample["points"].mean()) < 0.8


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_landmarks(face_folder: Path, tmp_path: Path, split: str) -> None:
    (tmp_path / "index.csv").write_bytes((face_folder / "index.csv").read_bytes())
    if split == "val":
        np.savez(tmp_path / "labels.npz", files=["anna_0.png"], landmarks=TEMPLATE[None])
    with pytest.raises(PictureError, match=f"{tmp_path}: no landmarks in labels.npz of the {split} split's faces"):
        LandmarksStage(LandmarksConfig(data=tmp_path, run=tmp_path, steps=1, batch=2))


def test_a_warm_start_begins_with_the_weights_of_an_earlier_run(stage: LandmarksStage, tmp_path: Path) -> None:
    stage.export(tmp_path)
    earlier = stage.network.state_dict()
    warm = LandmarksStage(stage.config.model_copy(update={"warm_start": tmp_path / "landmarks.safetensors"}))
    assert all(torch.equal(value, earlier[name]) for name, value in warm.network.state_dict().items())


def test_views_are_degraded_as_the_settings_say(stage: LandmarksStage) -> None:
    def views(**settings: object) -> torch.Tensor:
        dataset = LandmarksStage(stage.config.model_copy(update=settings)).dataset
        return torch.stack([dataset[number]["image"] for number in range(3)])

    clean, mild = views(degraded=0.0), views(degraded=1.0, presets=("mild",))
    assert not torch.equal(mild, views(degraded=1.0)) and not torch.equal(mild, clean)
    assert torch.equal(clean, views(degraded=0.0, presets=("mild",)))


def test_one_step(stage: LandmarksStage) -> None:
    assert set(one_step(stage, (0, 1))) == {"heatmap", "coordinates"}


def test_what_is_outside_the_view_is_not_learned(stage: LandmarksStage) -> None:
    stage.network.eval()
    with torch.no_grad():
        losses = stage.losses({"image": torch.zeros(1, 3, 192, 192), "points": torch.full((1, 68, 2), 1.2)}, 0)
    assert float(losses["heatmap"]) == float(losses["coordinates"]) == 0


def test_figures_pictures_and_export(stage: LandmarksStage, tmp_path: Path) -> None:
    stage.network.eval()
    with torch.no_grad():
        figures = stage.validate()
        assert set(figures) == {"nme_clean", "nme_8x", "nme_vqfr_v2"} and all(value > 0 for value in figures.values())
        assert stage.pictures().shape == (3, 256, 4 * 256)
    stage.export(tmp_path)
    load_component(LandmarkNetwork(LandmarkNetworkConfig()), tmp_path / "landmarks.safetensors")


def test_the_error_is_in_per_cent_of_the_eyes_distance(stage: LandmarksStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """All points found two pixels beside the truth."""
    found = (torch.from_numpy(TEMPLATE).float() + torch.tensor([2.0, 0.0]) + 0.5) / 512
    monkeypatch.setattr("training.stages.landmarks.soft_argmax", lambda logits: found[None])
    between = float(torch.from_numpy(TEMPLATE[36] - TEMPLATE[45]).norm())
    with torch.no_grad():
        assert stage.validate()["nme_clean"] == pytest.approx(100 * 2 / between, rel=1e-3)


def test_landmarks_of_small_pictures_are_enlarged_with_them(
    stage: LandmarksStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = stage.held_out.files[0]
    with Image.open(file.path) as picture:
        picture.resize((256, 256)).save(tmp_path / "small.png")
    small = replace(file, path=tmp_path / "small.png", landmarks=(TEMPLATE / 2 - 0.25).astype(np.float32))
    unlabelled = replace(file, landmarks=None)
    monkeypatch.setattr(stage, "held_out", Faces([small, unlabelled]))
    images, points = stage._held_out(None, [0, 1])
    assert images.shape == (1, 3, 256, 256)
    assert torch.allclose(points[0], torch.from_numpy(TEMPLATE).float(), atol=1e-3)


def test_gaussian_heatmaps_have_sum_one_and_their_mean_at_the_point() -> None:
    points = torch.tensor([[(0.31, 0.62), (0.5, 0.5)]])
    maps = gaussian_heatmaps(points, 48, 1.5)
    assert torch.allclose(maps.sum((2, 3)), torch.ones(1, 2), atol=1e-5)
    cells = (torch.arange(48) + 0.5) / 48
    found = torch.stack([(maps.sum(2) * cells).sum(-1), (maps.sum(3) * cells).sum(-1)], dim=-1)
    assert torch.allclose(found, points, atol=1e-4)
    spread = (maps.sum(2) * (cells * 48 - points[..., :1] * 48) ** 2).sum(-1)
    assert torch.allclose(spread, torch.full((1, 2), 1.5**2), rtol=0.02)
