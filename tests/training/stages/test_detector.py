from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models.errors import PictureError
from models.face_detector import FaceDetectorConfig, FaceDetectorNetwork, cell_centres
from tests.toy_faces import TEMPLATE
from tests.training.one_step import one_step
from training.components import load_component
from training.labelled_pictures import labelled_pictures
from training.stage import Batch
from training.stages.detector import (
    MOST_FACES,
    DetectorConfig,
    DetectorStage,
    SceneDataset,
    assign,
    box_overlap,
    generalised_overlap_loss,
)

NAN = [float("nan")] * 4


@pytest.fixture(scope="module")
def stage(face_folder: Path) -> DetectorStage:
    torch.manual_seed(0)
    return DetectorStage(DetectorConfig(data=face_folder, run=face_folder, steps=1, batch=2, canvas=128))


def test_the_people_held_out_are_those_of_the_other_stages(face_folder: Path) -> None:
    config = DetectorConfig(data=face_folder, run=face_folder, steps=1, batch=2, held_out_people=1)
    with pytest.raises(PictureError, match="held"):
        DetectorStage(config)


def test_scenes_have_faces_where_their_boxes_are(face_folder: Path) -> None:
    config = DetectorConfig(data=face_folder, run=face_folder, steps=1, batch=1, canvas=256, smallest=80)
    dataset = SceneDataset(labelled_pictures(face_folder), config)
    counts, coloured = [], 0
    for number in range(12):
        sample = dataset[number]
        assert sample["image"].shape == (3, 256, 256) and sample["boxes"].shape == (MOST_FACES, 4)
        boxes = sample["boxes"][~sample["boxes"].isnan().any(1)]
        counts.append(len(boxes))
        for x0, y0, x1, y1 in boxes.tolist():
            side = ((x1 - x0) * (y1 - y0)) ** 0.5
            assert 0 < side < 256
            # the drawn marks, red, green and blue, are the only saturated colours
            inside = sample["image"][:, max(0, int(y0)) : int(y1) + 1, max(0, int(x0)) : int(x1) + 1]
            coloured += bool((inside.amax(0) - inside.amin(0)).max() > 0.3)
    assert min(counts) < 2 and 2 <= max(counts) <= MOST_FACES
    assert coloured > 0.6 * sum(counts)  # one scene in ten is grey, some are degraded
    assert torch.equal(dataset[3]["image"], dataset[3]["image"])


def test_faces_come_from_every_folder_and_backgrounds_from_photographs_alone(face_folder: Path, tmp_path: Path) -> None:
    green = tmp_path / "green"
    green.mkdir()
    Image.new("RGB", (512, 512), (0, 255, 0)).save(green / "face.png")
    np.savez(green / "labels.npz", files=["face.png"], landmarks=TEMPLATE[None].astype(np.float32))
    settings = {"data": face_folder, "run": face_folder, "steps": 1, "batch": 1, "degraded": 0.0, "smallest": 30}
    stage = DetectorStage(DetectorConfig(faces=face_folder, extra=(green,), canvas=128, **settings))

    def greenness(sample: Batch, boxes: bool) -> float:
        found = sample["image"][1] - sample["image"][[0, 2]].amax(0)
        if boxes:
            x0, y0, x1, y1 = sample["boxes"][~sample["boxes"].isnan().any(1)][0].int().clamp(0, 127).tolist()
            found = found[y0 : y1 + 1, x0 : x1 + 1]
        return float(found.mean())

    samples = [stage.dataset[number] for number in range(40)]
    with_faces = [sample for sample in samples if not sample["boxes"].isnan().all()]
    shown = [greenness(sample, boxes=True) > 0.7 for sample in with_faces]
    assert 2 < sum(shown) < 20  # a third of them, one scene in ten is grey
    assert not any(greenness(sample, boxes=False) > 0.3 for sample in samples if sample["boxes"].isnan().all())
    assert not any(greenness(stage.held_out[number], boxes=False) > 0.3 for number in range(20))


def test_scenes_are_degraded_as_the_settings_say(stage: DetectorStage) -> None:
    def scene(number: int, **changes: Any) -> torch.Tensor:
        photos = stage.dataset.photos
        return SceneDataset(photos, stage.config.model_copy(update=changes))[number]["image"]

    clean, mild = scene(3, degraded=0.0), scene(3, degraded=1.0, presets=("mild",))
    assert not torch.equal(mild, scene(3, degraded=1.0)) and not torch.equal(mild, clean)
    assert torch.equal(clean, scene(3, degraded=0.0, presets=("mild",)))


def test_small_faces_are_degraded_less(stage: DetectorStage) -> None:
    def scale(*sides: float) -> float:
        boxes = np.array([[0, 0, side, side] for side in sides] + [NAN] * (MOST_FACES - len(sides)), np.float32)
        return stage.dataset._scale(boxes, np.random.default_rng(0))

    assert scale(25.0) == pytest.approx(0.1 * scale(250.0)) == scale(200.0, 25.0) and scale(250.0) == scale(280.0)
    assert 0 < scale() <= 1


def test_a_warm_start_begins_with_the_weights_of_an_earlier_run(stage: DetectorStage, tmp_path: Path) -> None:
    stage.export(tmp_path)
    warm = DetectorStage(stage.config.model_copy(update={"warm_start": tmp_path / "detector.safetensors"}))
    weights, begun = stage.network.state_dict(), warm.network.state_dict()
    assert all(torch.allclose(weights[name].float(), begun[name].float(), atol=1e-3) for name in weights)
    assert not torch.equal(
        begun["stem.0.0.weight"], DetectorStage(stage.config).network.state_dict()["stem.0.0.weight"]
    )


def test_one_step(stage: DetectorStage) -> None:
    assert set(one_step(stage, (0, 1, 2))) == {"scores", "boxes"}


def test_a_scene_without_faces_can_be_learned_from(stage: DetectorStage) -> None:
    empty = {"image": torch.zeros(1, 3, 128, 128), "boxes": torch.tensor([[NAN] * MOST_FACES])}
    with torch.no_grad():
        losses = stage.losses(empty, 0)
    assert float(losses["boxes"]) == 0 and float(losses["scores"]) > 0


def test_figures_pictures_and_export(stage: DetectorStage, tmp_path: Path) -> None:
    stage.network.eval()
    figures = stage.validate()
    assert set(figures) == {"recall", "precision"} and all(0 <= value <= 1 for value in figures.values())
    assert stage.pictures().shape == (3, 128, 5 * 128)
    stage.export(tmp_path)
    load_component(FaceDetectorNetwork(FaceDetectorConfig()), tmp_path / "detector.safetensors")


def test_cells_in_the_middle_of_a_face_of_their_size_answer_for_it() -> None:
    boxes = torch.tensor([[NAN, [32.0, 32.0, 96.0, 96.0]]])  # 64 px: for the stride of 16
    owner, ignored = assign(boxes, 128)
    levels = owner[0].split([256, 64, 16])
    assert (levels[0] == -1).all() and (levels[2] == -1).all()
    centres = cell_centres(8, 8, 16)[levels[1] == 1]
    assert sorted(map(tuple, centres.tolist())) == [(x, y) for x in (56.0, 72.0) for y in (56.0, 72.0)]
    assert set(levels[1].tolist()) == {-1, 1}
    # what is well inside the face but does not answer is left out of the loss, on every level
    assert not (ignored[0] & (owner[0] >= 0)).any()
    fine = cell_centres(16, 16, 8)[ignored[0, :256]]
    assert len(fine) > 20 and ((fine - 64).abs() <= 0.45 * 64).all()
    far = cell_centres(16, 16, 8)[~ignored[0, :256]]
    assert ((far - 64).abs() > 0.45 * 64).any(1).all()


@pytest.mark.parametrize("size", [8.0, 16.0, 30.0, 41.0, 60.0, 95.0, 100.0, 200.0])
def test_a_face_of_any_size_has_a_cell(size: float) -> None:
    for place in np.linspace(120, 136, 5):
        low, high = place - size / 2, place + size / 2
        owner, _ = assign(torch.tensor([[[low, low, high, high]]]), 256)
        assert (owner == 0).any()


def test_no_faces_no_answers() -> None:
    owner, ignored = assign(torch.tensor([[NAN, NAN]]), 64)
    assert (owner == -1).all() and not ignored.any()


def test_overlap_of_boxes() -> None:
    box = np.array([0, 0, 10, 10], np.float32)
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [2, 2, 4, 4], [3, 3, 3, 3]], np.float32)
    assert box_overlap(box, others) == pytest.approx([1, 1 / 3, 0, 0.04, 0])


def test_the_overlap_loss_on_known_boxes() -> None:
    truth = torch.tensor([0.0, 0.0, 10.0, 10.0])
    others = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 0, 30, 10]])
    # IoU 1, 1/3 and 0; the hull of the last pair is 30 x 10, a third of it empty
    assert generalised_overlap_loss(others, truth.expand(3, 4)).tolist() == pytest.approx([0, 2 / 3, 1 + 1 / 3])
