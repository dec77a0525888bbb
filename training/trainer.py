"""The training loop: accelerate for precision and devices, averaged weights, atomic checkpoints, resume, NaN guard."""

import copy
import math
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler
from torch.utils.tensorboard import SummaryWriter

from models.errors import HonestFaceError
from training.stage import Batch, Stage, TrainingConfig

#: Steps in a row whose gradients are not finite, before a run gives up; each leaves the weights as they are.
MOST_SKIPPED = 20


class TrainingError(HonestFaceError):
    """A run that cannot go on: no finite gradients, or a checkpoint of another network."""


class NumberedSampler(Sampler[int]):
    """The samples from number `start` to `end`, in order: their number is their seed."""

    def __init__(self, start: int, end: int) -> None:
        self.start, self.end = start, end

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.end))

    def __len__(self) -> int:
        return self.end - self.start


class Trainer:
    """Trains one stage; `fit` resumes from the newest checkpoint in the run's folder."""

    def __init__(self, stage: Stage, config: TrainingConfig) -> None:
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.stage, self.config = stage, config
        self.accelerator = Accelerator(mixed_precision=config.precision if config.precision != "fp32" else "no")
        stage.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        parameters = [p for p in stage.network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            parameters, lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.99)
        )
        self.step = self.skipped = 0
        self.average = {k: v.detach().clone() for k, v in _trained(stage.network).items()}
        config.run.mkdir(parents=True, exist_ok=True)
        self.checkpoint = config.run / "checkpoint.pt"
        if self.checkpoint.exists():
            self._load()

    def fit(self) -> None:
        """Train to the configured number of steps, then validate and export with the averaged weights."""
        config = self.config
        writer = SummaryWriter(str(config.run / "scalars"))
        loader: DataLoader[Batch] = DataLoader(
            self.stage.dataset,
            batch_size=config.batch,
            sampler=NumberedSampler(self.step * config.batch, config.steps * config.batch),
            num_workers=config.workers,
            prefetch_factor=4 if config.workers else None,
            worker_init_fn=_single_thread,
        )
        self.stage.network, self.optimizer, loader = self.accelerator.prepare(
            self.stage.network, self.optimizer, loader
        )
        started = saved = pictured = time.monotonic()
        first, shown = self.step, 0.0
        for batch in loader:
            losses = self._train_step(batch)
            if self.skipped > MOST_SKIPPED:
                raise TrainingError(f"{self.skipped} steps without finite gradients before step {self.step}: {losses}")
            now = time.monotonic()
            if now - shown > 15:
                shown = now
                pace = (now - started) / max(1, self.step - first)
                terms = " ".join(f"{name} {value:.4f}" for name, value in losses.items())
                left = pace * (config.steps - self.step) / 60
                print(f"step {self.step}/{config.steps} {terms} | {pace:.2f} s/step, {left:.0f} min left", flush=True)
                for name, value in losses.items():
                    writer.add_scalar(f"loss/{name}", value, self.step)
            if now - saved > config.checkpoint_seconds:
                self._save()
                saved = now
            if now - pictured > config.picture_seconds:
                self._report(writer)
                pictured = time.monotonic()
        self._save()
        self._report(writer)
        with self._averaged():
            self.stage.export(config.run)
        writer.close()

    def _train_step(self, batch: Batch) -> dict[str, float]:
        # what a step draws depends on its number alone: a resumed run repeats an uninterrupted one
        torch.manual_seed(self.config.seed + self.step)
        network = self.stage.network
        network.train()
        rate = self.config.learning_rate * _schedule(self.step, self.config.warmup, self.config.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with self.accelerator.autocast():
            losses = self.stage.losses(batch, self.step)
        total = torch.stack([loss.float() for loss in losses.values()]).sum()
        self.accelerator.backward(total)
        norm = self.accelerator.clip_grad_norm_(network.parameters(), self.config.gradient_clip)
        if norm is None or torch.isfinite(norm):
            self.optimizer.step()
            self._update_average()
            self.skipped = 0
        else:
            self.skipped += 1
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return {name: float(loss.detach()) for name, loss in losses.items()}

    def _update_average(self) -> None:
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        current = _trained(self.accelerator.unwrap_model(self.stage.network))
        floats = [k for k, v in current.items() if v.is_floating_point()]
        torch._foreach_lerp_([self.average[k] for k in floats], [current[k] for k in floats], 1 - decay)

    def _averaged(self) -> "_Averaged":
        return _Averaged(self.accelerator.unwrap_model(self.stage.network), self.average)

    def _report(self, writer: SummaryWriter) -> None:
        if not self.accelerator.is_main_process:
            return
        with self._averaged(), torch.no_grad():
            figures = self.stage.validate()
            sheet = self.stage.pictures()
        print(f"step {self.step} validation " + " ".join(f"{k} {v:.4f}" for k, v in figures.items()), flush=True)
        for name, value in figures.items():
            writer.add_scalar(f"validation/{name}", value, self.step)
        if sheet is not None:
            pixels = (sheet.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
            Image.fromarray(np.ascontiguousarray(pixels)).save(self.config.run / f"sheet_{self.step:06d}.png")

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        state: dict[str, Any] = {
            "step": self.step,
            "network": _trained(self.accelerator.unwrap_model(self.stage.network)),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }
        temporary = self.checkpoint.with_suffix(".part")
        torch.save(state, temporary)
        os.replace(temporary, self.checkpoint)  # atomic: a kill leaves the old checkpoint or the new one

    def _load(self) -> None:
        state = torch.load(self.checkpoint, weights_only=True, map_location="cpu")
        own = _trained(self.stage.network)
        if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in state["network"].items()}:
            raise TrainingError(f"{self.checkpoint} belongs to another network: start in a new run folder")
        self.stage.network.load_state_dict(state["network"], strict=False)
        self.optimizer.load_state_dict(state["optimizer"])
        self.average, self.step = state["average"], state["step"]


class _Averaged:
    """Puts the averaged weights into the network for as long as the block lasts."""

    def __init__(self, network: nn.Module, average: dict[str, Tensor]) -> None:
        self.network, self.average = network, average

    def __enter__(self) -> None:
        self.kept = copy.deepcopy(_trained(self.network))
        self.network.load_state_dict(self.average, strict=False)
        self.network.eval()

    def __exit__(self, *_: object) -> None:
        self.network.load_state_dict(self.kept, strict=False)
        self.network.train()


def _trained(network: nn.Module) -> dict[str, Tensor]:
    """The trainable weights and all buffers; frozen parts (teachers, a frozen VAE) are not saved with a run."""
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    return {name: value for name, value in network.state_dict().items() if name not in frozen}


def _schedule(step: int, warmup: int, steps: int) -> float:
    """Linear warm-up, then a cosine down to 2 %."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def _single_thread(_: int) -> None:
    torch.set_num_threads(1)
