"""A step that is not finite leaves nothing behind, and what is not finite is not exported."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.small_generator import SMALL
from tests.training.toy_stage import ToyConfig, ToyDataset, ToyStage
from training.stage import Batch
from training.stages import vre
from training.stages.vre import VREStage, VREStageConfig
from training.trainer import Trainer, TrainingError


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    threads = torch.get_num_threads()
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)
    torch.set_num_threads(threads)


def lean(run: Path, **settings: object) -> dict[str, object]:
    fixed = {"run": run, "steps": 6, "batch": 4, "precision": "fp32", "workers": 0, "threads": 1, "warmup": 0}
    return {"data": run, **fixed, "picture_seconds": 1e9, **settings}


def toy(run: Path, **settings: object) -> ToyConfig:
    return ToyConfig.model_validate(lean(run, **settings))


def copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def equal(network: nn.Module, before: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_batch_of_nan_leaves_network_average_and_opponent_as_they_were(tmp_path: Path) -> None:
    """Batch norm's running figures as well, of the batch before it in the same step too."""
    config = toy(tmp_path, adversarial=True, accumulate=2)
    stage = ToyStage(config)
    assert stage.adversary is not None
    stage.adversary.layer = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1))  # type: ignore[assignment]
    trainer = Trainer(stage, config)
    stage.network[1].running_mean = torch.zeros(4)  # DistributedDataParallel puts other buffers in place
    good, bad = {"x": torch.randn(4, 3)}, {"x": torch.full((4, 3), torch.nan)}
    trainer._train_step([good, good])
    networks = stage.network, stage.adversary
    before = [copied(network) for network in networks]
    average = {name: value.clone() for name, value in trainer.average.values.items()}
    trainer._train_step([good, bad])
    assert trainer.skipped == 1
    assert all(equal(*pair) for pair in zip(networks, before, strict=True))
    assert all(torch.equal(value, average[name]) for name, value in trainer.average.values.items())
    trainer._train_step([good, good])
    assert not any(equal(*pair) for pair in zip(networks, before, strict=True))


def test_a_run_with_a_batch_of_nan_exports_what_is_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sample(dataset: ToyDataset, number: int) -> Batch:
        return {"x": torch.full((3,), torch.nan if 12 <= number < 16 else number / 24)}  # one step of six

    monkeypatch.setattr(ToyDataset, "__getitem__", sample)
    config = toy(tmp_path)
    assert Trainer(ToyStage(config), config).fit()
    assert all(value.isfinite().all() for value in load_file(tmp_path / "toy.safetensors").values())


def test_what_is_not_finite_is_not_exported(tmp_path: Path) -> None:
    """Whatever made it so: here the step's gradients are finite."""

    class Broken(ToyStage):
        def losses(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
            self.network[1].running_var.fill_(torch.inf)
            return super().losses(batch, step)

    config = toy(tmp_path)
    for _ in range(2):  # and again from the checkpoint
        with pytest.raises(TrainingError, match=r"^1\.running_var: not finite after 6 steps, nothing is exported$"):
            Trainer(Broken(config), config).fit()
    assert not (tmp_path / "toy.safetensors").exists()


def test_a_batch_of_nan_leaves_the_dictionaries_as_they_were(
    tmp_path: Path, face_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vre, "PROFILES", {"tiny": SMALL})
    monkeypatch.setattr(vre, "held_out_samples", lambda *_: {})
    config = VREStageConfig.model_validate(lean(tmp_path, data=face_folder, association_from=1))
    stage = VREStage(config)
    trainer = Trainer(stage, config)
    good = {"truth": torch.rand(1, 3, 32, 32), "lq": torch.rand(1, 3, 32, 32)}
    trainer._train_step([good])
    before = copied(stage.network)
    trainer._train_step([good | {"lq": torch.full((1, 3, 32, 32), torch.nan)}])
    assert trainer.skipped == 1 and equal(stage.network, before)
    trainer._train_step([good])
    assert trainer.skipped == 0
    codes = "lq.embedder.quantize.embedding.weight"
    assert not torch.equal(stage.network.state_dict()[codes], before[codes])
