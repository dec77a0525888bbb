from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import default_collate

from models.errors import HonestFaceError, PictureError
from tests.training.toy_stage import Killed, ToyConfig, ToyDataset, ToyOpponent, ToyStage
from training import trainer as trainer_module
from training.learner import Learner
from training.stage import Batch
from training.trainer import NumberedSampler, Trainer, TrainingError, _schedule

STEPS = 12


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """accelerate keeps the precision of a process's first trainer; two threads are the trainer's default."""
    threads = torch.get_num_threads()
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)
    torch.set_num_threads(threads)


def config(run: Path, **settings: object) -> ToyConfig:
    values = {
        "steps": STEPS,
        "batch": 4,
        "learning_rate": 0.05,
        "warmup": 3,
        "ema": 0.9,
        "precision": "fp32",
        "workers": 0,
        "threads": 1,
        "checkpoint_seconds": -1.0,  # after every step
    }
    return ToyConfig.model_validate({"data": run, "run": run, **values, **settings})


def train(run: Path, stage: ToyStage | None = None, **settings: object) -> tuple[ToyStage, Trainer]:
    chosen = config(run, **settings)
    stage = stage or ToyStage(chosen)
    trainer = Trainer(stage, chosen)
    trainer.fit()
    return stage, trainer


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_it_learns(tmp_path: Path, optimizer: str) -> None:
    stage, _ = train(tmp_path, steps=80, checkpoint_seconds=1e9, optimizer=optimizer)
    x = torch.cat([stage.dataset[number]["x"][None] for number in range(1000, 1064)])
    with torch.no_grad():
        answer = stage.network[2](stage.network[1](stage.network[0](x)))
    assert float((answer + x).square().mean()) < 0.3 * float(x.square().mean())


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_that_is_killed_and_resumed_ends_like_an_uninterrupted_one(tmp_path: Path, optimizer: str) -> None:
    whole, whole_trainer = train(tmp_path / "whole", optimizer=optimizer)
    broken = tmp_path / "broken"
    for kill_at in (5, 9):
        with pytest.raises(Killed):
            train(broken, ToyStage(config(broken), kill_at), picture_seconds=-1.0, optimizer=optimizer)
    last, last_trainer = train(broken, optimizer=optimizer)
    assert [len(last.seen), last_trainer.step] == [STEPS - 9, STEPS]
    assert torch.equal(last.samples[0], whole.samples[9])
    assert equal(last.network.state_dict(), whole.network.state_dict())
    assert equal(last_trainer.average.values, whole_trainer.average.values)
    assert equal(load_file(broken / "toy.safetensors"), load_file(tmp_path / "whole" / "toy.safetensors"))


def test_generator_and_discriminator_alternate_and_resume_together(tmp_path: Path) -> None:
    whole, whole_trainer = train(tmp_path / "whole", adversarial=True)
    broken = tmp_path / "broken"
    with pytest.raises(Killed):
        train(broken, ToyStage(config(broken, adversarial=True), kill_at=6), adversarial=True)
    last, last_trainer = train(broken, adversarial=True)
    assert whole.adversary is not None and last.adversary is not None
    assert equal(last.network.state_dict(), whole.network.state_dict())
    assert equal(last.adversary.state_dict(), whole.adversary.state_dict())
    plain, _ = train(tmp_path / "plain")
    assert not equal(plain.network.state_dict(), whole.network.state_dict())
    assert whole_trainer.step == last_trainer.step == STEPS


def test_a_discriminator_joins_a_run_that_was_begun_without(tmp_path: Path) -> None:
    train(tmp_path, ToyStage(config(tmp_path)), steps=4)
    stage, trainer = train(tmp_path, adversarial=True)
    assert len(stage.seen) == STEPS - 4 and trainer.step == STEPS
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert set(state["adversary"]) == {"layer.weight", "layer.bias"}


def test_several_batches_a_step_are_one_large_batch(tmp_path: Path) -> None:
    """But for the toy's batch norm, which sees each by itself: so only the samples are compared."""
    stage, trainer = train(tmp_path / "a", accumulate=2, batch=2, steps=3)
    large, _ = train(tmp_path / "b", steps=3)
    assert trainer.step == 3 and len(stage.samples) == 6
    assert torch.equal(torch.cat(stage.samples), torch.cat(large.samples))
    assert torch.equal(stage.seen[0]["0.weight"], stage.seen[1]["0.weight"])
    assert not torch.equal(stage.seen[1]["0.weight"], stage.seen[2]["0.weight"])


def first_gradients(learner: Learner) -> list[Tensor]:
    """What a learner's optimiser will see at its first step."""
    assert isinstance(learner.optimizer, torch.optim.AdamW)
    seen: list[Tensor] = []
    learner.optimizer.register_step_pre_hook(
        lambda *_: seen.extend(p.grad.clone() for p in learner.parameters if p.grad is not None)
    )
    return seen


def test_each_player_learns_from_its_own_losses_and_the_mean_of_the_batches(tmp_path: Path) -> None:
    chosen = config(tmp_path, adversarial=True, gradient_clip=1e9)
    stage = ToyStage(chosen)
    trainer = Trainer(stage, chosen)
    assert stage.adversary is not None and isinstance(trainer.discriminator, Learner)
    batches = [default_collate([stage.dataset[n] for n in numbers]) for numbers in (range(4), range(4, 8))]
    own, opponents = torch.zeros(2)
    for number, batch in enumerate(batches):
        torch.manual_seed(number)
        own = own + sum(stage.losses(batch, 0).values()) / 2
        opponents = opponents + stage.adversary.losses(0)["discriminator"] / 2
    expected: list[Tensor] = []
    found = []
    for loss, learner in ((own, trainer.generator), (opponents, trainer.discriminator)):
        expected += torch.autograd.grad(loss, learner.parameters)
        found.append(first_gradients(learner))
    trainer._train_step(batches)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip([*found[0], *found[1]], expected, strict=True))


def test_gradients_are_clipped(tmp_path: Path) -> None:
    chosen = config(tmp_path, gradient_clip=0.01)
    stage = ToyStage(chosen)
    trainer = Trainer(stage, chosen)
    gradients = first_gradients(trainer.generator)
    trainer._train_step([default_collate([stage.dataset[n] for n in range(4)])])
    assert float(nn.utils.get_total_norm(gradients)) == pytest.approx(0.01, rel=1e-3)


def test_time_slices_end_with_a_checkpoint_and_go_on(tmp_path: Path) -> None:
    slices = 0
    while True:
        stage = ToyStage(config(tmp_path))
        trainer = Trainer(stage, config(tmp_path, max_seconds=0.0, checkpoint_seconds=1e9, picture_seconds=1e9))
        if trainer.fit():
            break
        slices += 1
        assert len(stage.seen) == 1 and not (tmp_path / "toy.safetensors").exists()
    whole, _ = train(tmp_path / "whole")
    assert slices == STEPS  # the last one only exports
    assert equal(trainer.stage.network.state_dict(), whole.network.state_dict())


def test_several_processes_share_the_batches_of_a_step() -> None:
    shares = [list(NumberedSampler(12, 24, 3, rank, 2)) for rank in range(2)]
    assert shares == [[12, 13, 14, 18, 19, 20], [15, 16, 17, 21, 22, 23]]


def test_a_finished_run_is_only_exported_again(tmp_path: Path) -> None:
    first, _ = train(tmp_path)
    (tmp_path / "toy.safetensors").unlink()
    again, _ = train(tmp_path)
    assert again.seen == [] and equal(again.network.state_dict(), first.network.state_dict())
    assert (tmp_path / "toy.safetensors").exists()


def test_the_export_holds_averaged_weights(tmp_path: Path) -> None:
    stage, _ = train(tmp_path)
    trajectory = [*stage.seen, stage.network.state_dict()]
    expected = trajectory[0]["0.weight"]
    for step, weights in enumerate(trajectory[1:]):
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weights["0.weight"]
    exported = load_file(tmp_path / "toy.safetensors")
    assert torch.allclose(exported["0.weight"], expected, atol=1e-6)
    assert not torch.allclose(exported["0.weight"], stage.network.state_dict()["0.weight"], atol=1e-4)


def test_validation_sees_the_averaged_network_in_evaluation_mode(tmp_path: Path) -> None:
    stage, _ = train(tmp_path, picture_seconds=-1.0)
    assert stage.modes == [False] * (STEPS + 1)
    sheets = sorted(tmp_path.glob("sheet_*.png"))
    assert len(sheets) == STEPS
    with Image.open(sheets[0]) as sheet:
        assert sheet.size == (6, 4)
    assert any((tmp_path / "scalars").iterdir())


def test_frozen_parts_are_not_saved_with_a_run(tmp_path: Path) -> None:
    train(tmp_path)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["step"] == STEPS
    assert "1.running_mean" in state["network"] and "frozen.weight" not in state["network"]
    assert not (tmp_path / "checkpoint.part").exists()


@pytest.mark.parametrize("gradient", [False, True], ids=["loss", "gradient of a finite loss"])
def test_a_run_that_only_gives_nan_is_stopped(tmp_path: Path, gradient: bool) -> None:
    stage = ToyStage(config(tmp_path), poison=range(3, 1000), poisoned_gradient=gradient)
    with pytest.raises(TrainingError, match="without finite gradients"):
        train(tmp_path, stage, steps=100)
    assert len(stage.seen) == 3 + 21
    assert torch.equal(stage.network[0].weight, stage.seen[3]["0.weight"])
    assert stage.network[0].weight.isfinite().all()


def test_a_step_that_gives_nan_is_left_out(tmp_path: Path) -> None:
    stage, trainer = train(tmp_path, ToyStage(config(tmp_path), poison=range(4, 6)))
    assert trainer.step == STEPS
    assert torch.equal(stage.seen[4]["0.weight"], stage.seen[6]["0.weight"])
    assert all(value.isfinite().all() for value in stage.network.state_dict().values())


def test_half_of_the_steps_may_be_left_out(tmp_path: Path) -> None:
    stage = ToyStage(config(tmp_path), poison=range(0, 60, 2))
    assert train(tmp_path, stage, steps=60, checkpoint_seconds=1e9)[1].step == 60


def test_a_discriminator_that_only_gives_nan_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def poisoned(opponent: ToyOpponent, step: int) -> dict[str, Tensor]:
        return {"discriminator": torch.nan * opponent.layer.weight.sum()}

    monkeypatch.setattr(ToyOpponent, "losses", poisoned)
    with pytest.raises(TrainingError, match="without finite gradients"):
        train(tmp_path, steps=30, checkpoint_seconds=1e9, adversarial=True)


def test_the_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    train(tmp_path, steps=2)
    with pytest.raises(TrainingError, match="another network: start in a new run folder"):
        train(tmp_path, width=5)


def spoilt(run: Path, **values: object) -> None:
    """A checkpoint with other values; None leaves one out."""
    path = run / "checkpoint.pt"
    state = {**torch.load(path, weights_only=True), **values}
    torch.save({name: value for name, value in state.items() if value is not None}, path)


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "object"])
def test_a_damaged_checkpoint(tmp_path: Path, damage: str) -> None:
    train(tmp_path, steps=2)
    path = tmp_path / "checkpoint.pt"
    if damage == "object":
        torch.save(Path("an object"), path)
    else:
        path.write_bytes({"truncated": path.read_bytes()[:-200], "garbage": b"no checkpoint", "empty": b""}[damage])
    with pytest.raises(TrainingError, match=r"checkpoint\.pt cannot be read: it is damaged, or no checkpoint$"):
        train(tmp_path)


def test_the_checkpoint_of_another_optimiser_is_refused_and_an_old_one_taken(tmp_path: Path) -> None:
    train(tmp_path, steps=2)
    with pytest.raises(TrainingError, match=r"checkpoint\.pt was trained with adamw: set optimizer=adamw, not muon"):
        train(tmp_path, optimizer="muon")
    spoilt(tmp_path, optimizer_name=None)  # as until 0.11.0
    with pytest.raises(TrainingError, match=r"checkpoint\.pt is no checkpoint of such a run"):
        train(tmp_path, optimizer="muon")
    assert train(tmp_path)[1].step == STEPS


def test_checkpoints_whose_parts_do_not_fit(tmp_path: Path) -> None:
    train(tmp_path, steps=2)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    moments = {
        number: {name: torch.zeros(7) if value.dim() else value for name, value in kept.items()}
        for number, kept in state["optimizer"]["state"].items()
    }
    for changed in (
        {"optimizer": state["optimizer"] | {"state": moments}},
        {"optimizer": [1]},
        {"step": "two"},
        {"network": {"0.weight": 1}},
        {"average": None},
    ):
        torch.save(state, tmp_path / "checkpoint.pt")
        spoilt(tmp_path, **changed)
        with pytest.raises(TrainingError, match=r"checkpoint\.pt is no checkpoint of such a run: start in a new run"):
            train(tmp_path)
    torch.save([1, 2], tmp_path / "checkpoint.pt")
    with pytest.raises(TrainingError, match="no checkpoint of such a run"):
        train(tmp_path)
    torch.save(state | {"average": {"0.weight": torch.zeros(1)}}, tmp_path / "checkpoint.pt")
    with pytest.raises(TrainingError, match="another network"):
        train(tmp_path)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # Python 3.12 on: torch's threads beside a fork
def test_a_picture_that_cannot_be_read_is_one_line(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(self: ToyDataset, number: int) -> Batch:
        raise PictureError("a.png: no such file")

    monkeypatch.setattr(ToyDataset, "__getitem__", unreadable)
    with pytest.raises(HonestFaceError, match=r"^a\.png: no such file$"):
        train(tmp_path, workers=workers)


def test_bf16_trains_too(tmp_path: Path) -> None:
    stage, _ = train(tmp_path, precision="bf16")
    assert {value.dtype for value in stage.network.parameters()} == {torch.float32}


@pytest.mark.parametrize(("native", "chosen"), [(True, "bf16"), (False, "no")])
def test_auto_is_bf16_where_the_cpu_has_units_for_it(
    native: bool, chosen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_module, "cpu_multiplies_bfloat16", lambda: native)
    _, trainer = train(tmp_path, precision="auto")
    assert trainer.accelerator.mixed_precision == chosen


def test_samples_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    assert list(NumberedSampler(8, 12)) == [8, 9, 10, 11]
    stage, _ = train(tmp_path, steps=2)
    for row, number in zip(torch.cat(stage.samples), range(8), strict=True):
        assert torch.equal(row, stage.dataset[number]["x"])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # Python 3.12 on: torch's threads beside a fork
def test_workers_give_the_same_samples(tmp_path: Path) -> None:
    stage, _ = train(tmp_path / "a", steps=3, workers=1)
    alone, _ = train(tmp_path / "b", steps=3)
    assert all(torch.equal(a, b) for a, b in zip(stage.samples, alone.samples, strict=True))


def test_the_learning_rate_warms_up_and_comes_down(tmp_path: Path) -> None:
    chosen = config(tmp_path)
    trainer = Trainer(ToyStage(chosen), chosen)
    optimizer = trainer.generator.optimizer
    assert isinstance(optimizer, torch.optim.AdamW)
    rates = []
    optimizer.register_step_pre_hook(lambda *_: rates.append(optimizer.param_groups[0]["lr"]))
    trainer.fit()
    assert rates[:3] == pytest.approx([0.05 / 3, 0.1 / 3, 0.05])
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert 0.02 * 0.05 < rates[-1] < 0.2 * 0.05


def test_the_learning_rate_ends_at_two_per_cent() -> None:
    rates = [_schedule(step, 2, 10) for step in (0, 1, 2, 6, 10, 99)]
    assert rates == pytest.approx([0.5, 1, 1, 0.51, 0.02, 0.02])
