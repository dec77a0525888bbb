from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from models.honestface import HonestFace
from models.identity_network import IdentityNetwork, IdentityNetworkConfig
from models.landmark_network import LandmarkNetwork, LandmarkNetworkConfig
from models.profiles import TINY
from tests.training.stages.workshop import Workshop
from training.components import save_component
from training.restoration_data import RestorationDataset, held_out_samples
from training.stage import Batch
from training.stages import baseline, honestface
from training.stages.baseline import BaselineStage
from training.stages.honestface import HonestFaceStage


def two_held_out(dataset: RestorationDataset, count: int) -> Batch:
    return held_out_samples(dataset, 2)


@pytest.fixture(scope="module")
def workshop(face_folder: Path, vgg16_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    runs = tmp_path_factory.mktemp("runs")
    (runs / "baseline").mkdir()
    (runs / "honestface").mkdir()
    torch.manual_seed(0)
    network = HonestFace(replace(TINY, identity_embedder=None, reference_adapter=None))
    save_component(network.vae, runs / "vae.safetensors")
    save_component(network.vre, runs / "vre.safetensors")
    save_component(LandmarkNetwork(LandmarkNetworkConfig()), runs / "landmarks.safetensors")
    save_component(IdentityNetwork(IdentityNetworkConfig()), runs / "identity.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baseline, "held_out_samples", two_held_out)
        patch.setattr(honestface, "held_out_samples", two_held_out)
        yield Workshop(face_folder, vgg16_file, runs)


@pytest.fixture(scope="module")
def blind(workshop: Workshop) -> BaselineStage:
    return BaselineStage(workshop.baseline())


@pytest.fixture(scope="module")
def referenced(workshop: Workshop, blind: BaselineStage) -> HonestFaceStage:
    """On a baseline that has moved away from restoring nothing, with adapters that have begun to learn."""
    for part in (blind.network.unet.conv_out.weight, blind.network.unet.conv_out.bias):
        nn.init.normal_(part, std=0.02)
    blind.export(workshop.runs / "baseline")
    stage = HonestFaceStage(workshop.honestface())
    torch.manual_seed(1)
    for name, parameter in stage.network.named_parameters():
        if ".lora_B." in name or "reference_adapter.leave" in name:
            nn.init.normal_(parameter, std=0.02)
    return stage
