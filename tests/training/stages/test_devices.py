"""All networks that a stage computes with move with it: what its attributes reach is what the trainer moves."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

from tests.training.stages.workshop import Workshop
from training.restoration_data import held_out_samples
from training.stage import Stage
from training.stages import vre
from training.stages.baseline import BaselineStage
from training.stages.honestface import HonestFaceStage
from training.stages.identity import IdentityConfig, IdentityStage
from training.stages.landmarks import LandmarksConfig, LandmarksStage
from training.stages.vre import VREStage, VREStageConfig

ADVERSARIES = {"latent_gan_weight": 0.01, "feature_gan_weight": 0.02, "feature_gan_side": 64}


def reached(thing: object, seen: dict[int, object]) -> Iterator[nn.Module]:
    """Networks that an object holds, also inside lists and inside wrappers such as a landmark detector."""
    if id(thing) in seen:
        return
    seen[id(thing)] = thing  # kept, so that its id stays its own
    if isinstance(thing, nn.Module):
        yield thing
    elif isinstance(thing, list | tuple):
        for entry in thing:
            yield from reached(entry, seen)
    elif isinstance(thing, dict):
        yield from reached(list(thing.values()), seen)
    elif type(thing).__module__.split(".")[0] in ("models", "training", "tests"):
        yield from reached(dict(getattr(thing, "__dict__", {})), seen)


def left_behind(stage: Stage) -> list[str]:
    """Types of networks with weights that the stage holds and the trainer would not move."""
    moved = {id(m) for part in (stage.network, stage.teachers, stage.adversary) if part for m in part.modules()}
    return [type(m).__name__ for m in reached(stage, {}) if m.state_dict() and id(m) not in moved]


def test_face_tools(face_folder: Path) -> None:
    settings = {"data": face_folder, "run": face_folder, "steps": 1, "batch": 2}
    assert left_behind(LandmarksStage(LandmarksConfig.model_validate(settings))) == []
    assert left_behind(IdentityStage(IdentityConfig.model_validate(settings))) == []


def test_dictionaries(face_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vre, "held_out_samples", lambda dataset, count: held_out_samples(dataset, 1))
    settings = {"data": face_folder, "run": face_folder, "steps": 1, "batch": 2, "association_from": 0}
    assert left_behind(VREStage(VREStageConfig.model_validate(settings))) == []


def test_restoration(workshop: Workshop) -> None:
    blind = BaselineStage(workshop.baseline().model_copy(update=ADVERSARIES))
    blind.export(workshop.runs / "baseline")
    assert left_behind(blind) == []
    stage = HonestFaceStage(workshop.honestface().model_copy(update=ADVERSARIES))
    assert left_behind(stage) == []
    stage.teachers = stage.adversary = None
    assert {"VGG16FeatureDistance", "LandmarkNetwork", "IdentityNetwork"} <= set(left_behind(stage))
