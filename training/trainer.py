"""The training loop: accelerate for precision and devices, averaged weights, atomic checkpoints, resume, NaN guard."""

import math
import os
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.tensorboard import SummaryWriter

from models.errors import HonestFaceError
from models.precision import cpu_multiplies_bfloat16
from training.learner import Learner
from training.stage import Batch, Stage, TrainingConfig, on_device
from training.trained_weights import AveragedWeights, trained_weights

#: Steps in a row that may be left out, their gradients not being finite, before a run gives up at the next; each leaves
#: the network, its buffers included, as it was.
MOST_SKIPPED = 20


class TrainingError(HonestFaceError):
    """A run that cannot go on: nothing finite, or a checkpoint that is damaged or another run's."""


class NumberedSampler(Sampler[int]):
    """The samples from number `start` to `end`, in order: their number is their seed.

    Of several processes each takes every `world`-th batch, beginning with batch `rank`.
    """

    def __init__(self, start: int, end: int, batch: int = 1, rank: int = 0, world: int = 1) -> None:
        self.start, self.end, self.batch, self.rank, self.world = start, end, batch, rank, world

    def __iter__(self) -> Iterator[int]:
        return (n for n in range(self.start, self.end) if n // self.batch % self.world == self.rank)


class Trainer:
    """Trains one stage; `fit` resumes from the newest checkpoint in the run's folder.

    `began` (time.monotonic) is when `max_seconds` began to count, by default now.
    """

    def __init__(self, stage: Stage, config: TrainingConfig, began: float | None = None) -> None:
        self.began = time.monotonic() if began is None else began
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.stage, self.config = stage, config
        # which parts of a network a step uses depends on its number: some losses are taken every few steps
        parallel = DistributedDataParallelKwargs(find_unused_parameters=True)
        self.accelerator = Accelerator(mixed_precision=_mixed(config.precision), kwargs_handlers=[parallel])
        device = self.accelerator.device
        if device.type == "cuda":
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.benchmark = True
        for part in (stage.network, stage.teachers, stage.adversary):
            if part is not None:
                part.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        self.generator = Learner(
            self.accelerator,
            stage.network,
            stage.losses,
            stage.written,
            config.learning_rate,
            config.weight_decay,
            (0.9, 0.99),
            config.optimizer,
        )
        self.discriminator = stage.adversary and Learner(
            self.accelerator,
            stage.adversary,
            stage.adversary.losses,
            stage.adversary.buffers,
            config.discriminator_learning_rate,
            config.weight_decay,
            (0.5, 0.99),
        )
        self.step = self.skipped = 0
        self.seconds = self.reported = 0.0
        self.average = AveragedWeights(stage.network, config.ema)
        config.run.mkdir(parents=True, exist_ok=True)
        self.checkpoint = config.run / "checkpoint.pt"
        if self.checkpoint.exists():
            self._load()

    def fit(self) -> bool:
        """Train to the configured number of steps, then validate and export with the averaged weights.

        False if `max_seconds` ran out first: the checkpoint is written and the same command goes on from it. Several
        processes part here: a trainer fits once.
        """
        main = self.accelerator.is_main_process
        try:
            with SummaryWriter(str(self.config.run / "scalars")) if main else nullcontext() as writer:
                return self._fit(writer)
        finally:
            self.accelerator.end_training()  # a group still open when the interpreter ends can abort the process

    def _fit(self, writer: SummaryWriter | None) -> bool:
        config = self.config
        batches = iter(self._loader())
        started = saved = time.monotonic()
        first, before, shown = self.step, self.seconds, 0.0
        while self.step < config.steps:
            losses = self._train_step([_next(batches) for _ in range(config.accumulate)])
            if self.skipped > MOST_SKIPPED:
                terms = {name: float(value) for name, value in losses.items()}
                raise TrainingError(f"{self.skipped} steps without finite gradients before step {self.step}: {terms}")
            now = time.monotonic()
            self.seconds = before + now - started
            if writer is not None and now - shown > 15:
                shown = now
                self._show(losses, (now - started) / (self.step - first), writer)
            if self._everywhere(now - saved > config.checkpoint_seconds):
                self._save()
                saved = now
            if self._everywhere(self.seconds - self.reported > config.picture_seconds):
                self._report(writer)
            if config.max_seconds is not None and self._everywhere(now - self.began > config.max_seconds):
                self._save()
                if writer is not None:
                    print(f"step {self.step}/{config.steps}: time is up, the same command goes on", flush=True)
                return False
        self._save()
        self._check_finite()
        self._report(writer)
        if writer is not None:
            with self.average:
                self.stage.export(config.run)
        self.accelerator.wait_for_everyone()
        return True

    def _loader(self) -> "DataLoader[Batch]":
        config, world = self.config, self.accelerator.num_processes
        each = config.batch * config.accumulate * world
        return DataLoader(
            self.stage.dataset,
            batch_size=config.batch,
            sampler=NumberedSampler(
                self.step * each, config.steps * each, config.batch, self.accelerator.process_index, world
            ),
            num_workers=config.workers,
            prefetch_factor=4 if config.workers else None,
            worker_init_fn=_single_thread,
            pin_memory=self.accelerator.device.type == "cuda",
        )

    def _train_step(self, batches: list[Batch]) -> dict[str, Tensor]:
        config, losses = self.config, {}
        self.stage.network.train()
        share = 1 / len(batches)
        for learner in (self.generator, self.discriminator):
            if learner:
                learner.begin()
        for number, batch in enumerate(batches):
            # what a step draws depends on its number alone: a resumed run repeats an uninterrupted one
            place = (self.step * len(batches) + number) * self.accelerator.num_processes
            torch.manual_seed(config.seed + place + self.accelerator.process_index)
            last = number == len(batches) - 1
            if self.discriminator:
                self.discriminator.thaw(False)
            batch = on_device(batch, self.accelerator.device)
            losses = self.generator.accumulate(batch, self.step, share=share, last=last)
            if self.discriminator:
                self.discriminator.thaw(True)
                losses |= self.discriminator.accumulate(self.step, share=share, last=last)
        progress = _schedule(self.step, config.warmup, config.steps)
        finite = self.generator.step(progress, config.gradient_clip)
        if finite:
            self.average.update(self.step)
        if self.discriminator:
            finite = self.discriminator.step(progress, config.gradient_clip) and finite
        self.skipped = 0 if finite else self.skipped + 1
        self.step += 1
        return losses

    def _everywhere(self, due: bool) -> bool:
        """What the main process finds, so that all processes save, report and stop at the same step."""
        if self.accelerator.num_processes == 1:
            return due
        answer = torch.tensor(int(due and self.accelerator.is_main_process), device=self.accelerator.device)
        return bool(self.accelerator.reduce(answer).item())

    def _check_finite(self) -> None:
        """Nothing is exported of a network that is not finite, however it came to be so."""
        weights = self.stage.network.state_dict() | self.average.values
        broken = [name for name, value in weights.items() if not value.isfinite().all()]
        if self._everywhere(bool(broken)):
            raise TrainingError(f"{', '.join(broken[:3])}: not finite after {self.step} steps, nothing is exported")

    def _show(self, losses: dict[str, Tensor], pace: float, writer: SummaryWriter) -> None:
        terms = {name: float(value) for name, value in losses.items()}
        shown = " ".join(f"{name} {value:.4f}" for name, value in terms.items())
        left = pace * (self.config.steps - self.step) / 60
        print(f"step {self.step}/{self.config.steps} {shown} | {pace:.2f} s/step, {left:.0f} min left", flush=True)
        for name, value in terms.items():
            writer.add_scalar(f"loss/{name}", value, self.step)

    def _report(self, writer: SummaryWriter | None) -> None:
        self.reported = self.seconds
        if writer is not None:
            with self.average, torch.no_grad():
                figures = self.stage.validate()
                sheet = self.stage.pictures()
            print(f"step {self.step} validation " + " ".join(f"{k} {v:.4f}" for k, v in figures.items()), flush=True)
            for name, value in figures.items():
                writer.add_scalar(f"validation/{name}", value, self.step)
            if sheet is not None:
                pixels = (sheet.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
                Image.fromarray(np.ascontiguousarray(pixels)).save(self.config.run / f"sheet_{self.step:06d}.png")
                writer.add_image("sheet", pixels, self.step, dataformats="HWC")
        self.accelerator.wait_for_everyone()

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        state: dict[str, Any] = {
            "step": self.step,
            "seconds": self.seconds,
            "reported": self.reported,
            "network": trained_weights(self.stage.network),
            "average": self.average.values,
            "optimizer": self.generator.optimizer.state_dict(),
            "optimizer_name": self.config.optimizer,
        }
        if self.discriminator:
            state["adversary"] = trained_weights(self.discriminator.network)
            state["adversary_optimizer"] = self.discriminator.optimizer.state_dict()
        temporary = self.checkpoint.with_suffix(".part")
        torch.save(state, temporary)
        os.replace(temporary, self.checkpoint)  # atomic: a kill leaves the old checkpoint or the new one

    def _load(self) -> None:
        try:
            state = torch.load(self.checkpoint, weights_only=True, map_location="cpu")
        except Exception:  # zip, pickle and torch have each their own; torch's words advise to switch its safety off
            raise TrainingError(f"{self.checkpoint} cannot be read: it is damaged, or no checkpoint") from None
        try:
            self._take(state)
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, IndexError):
            raise TrainingError(
                f"{self.checkpoint} is no checkpoint of such a run: start in a new run folder"
            ) from None

    def _take(self, state: dict[str, Any]) -> None:
        name, own = state.get("optimizer_name"), self.config.optimizer  # None in checkpoints of up to 0.12.0
        if name not in (own, None):
            raise TrainingError(f"{self.checkpoint} was trained with {name}: set optimizer={name}, not {own}")
        self._fill(self.generator, state["network"], state["optimizer"])
        self._check(self.generator, state["average"])
        self.average.load(state["average"])
        self.step = int(state["step"])
        self.seconds, self.reported = float(state.get("seconds", 0.0)), float(state.get("reported", 0.0))
        # discriminators may join a run that was begun without them
        if self.discriminator and "adversary" in state:
            self._fill(self.discriminator, state["adversary"], state["adversary_optimizer"])

    def _fill(self, learner: Learner, weights: dict[str, Tensor], optimizer: dict[str, Any]) -> None:
        self._check(learner, weights)
        learner.network.load_state_dict(weights, strict=False)
        learner.optimizer.load_state_dict(optimizer)
        for parameter, kept in learner.optimizer.state.items():
            if any(value.dim() and value.shape != parameter.shape for value in kept.values()):
                raise ValueError("the optimiser's state is of other shapes")

    def _check(self, learner: Learner, weights: dict[str, Tensor]) -> None:
        own = trained_weights(learner.network)
        if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in weights.items()}:
            raise TrainingError(f"{self.checkpoint} belongs to another network: start in a new run folder")


def _next(batches: Iterator[Batch]) -> Batch:
    try:
        return next(batches)
    except HonestFaceError as error:  # a worker's comes with its trace, the message in the last line
        *trace, last = str(error).strip().splitlines()
        raise HonestFaceError(last.partition(": ")[2] if trace else last) from None


def _mixed(precision: Literal["auto", "bf16", "fp32"]) -> str:
    """accelerate's name of a precision."""
    if precision == "auto":
        precision = "bf16" if PartialState().device.type != "cpu" or cpu_multiplies_bfloat16() else "fp32"
    return "bf16" if precision == "bf16" else "no"


def _schedule(step: int, warmup: int, steps: int) -> float:
    """Linear warm-up, then a cosine down to 2 %."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def _single_thread(_: int) -> None:
    torch.set_num_threads(1)
