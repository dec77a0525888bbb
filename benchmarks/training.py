"""Samples a second of a training stage, and how long the trainer waits for its data loader.

    python -m benchmarks.training --config training/configs/honestface.yaml [--stage honestface] [--steps 20]
        [--set KEY=VALUE ...] [--json FILE]

The stage is the real one with its real data, at tiny or at sd21 scale, as its settings say, on the GPU if there is one.
Nothing is validated, exported or kept: the run's folder is a temporary one.
"""

import argparse
import json
import tempfile
import time
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.engine import describe_machine
from training.run import STAGES, load_config
from training.stage import Batch, Stage, TrainingConfig
from training.trainer import Trainer

#: The first steps pay for what happens once: workers start, kernels are chosen.
WARM_UP = 3


class Enough(Exception):
    """As many steps as wanted."""


class TimedTrainer(Trainer):
    """Notes when each step begins and ends; between two steps it waits for the loader."""

    def __init__(self, stage: Stage, config: TrainingConfig, steps: int) -> None:
        super().__init__(stage, config)
        self.wanted = steps + WARM_UP
        self.starts: list[float] = []
        self.ends: list[float] = []

    def _train_step(self, batches: list[Batch]) -> dict[str, Tensor]:
        self.starts.append(time.perf_counter())
        losses = super()._train_step(batches)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())
        if len(self.ends) == self.wanted:
            raise Enough
        return losses


def measure(stage: str, config: Path, overrides: list[str], steps: int) -> dict[str, float]:
    """Samples a second, and the share of the time that the trainer waits, after the first steps."""
    module_name, config_name, stage_name = STAGES[stage]
    module = import_module(module_name)
    with tempfile.TemporaryDirectory() as folder:
        settings = load_config(config, getattr(module, config_name), [*overrides, f"run={folder}"])
        settings = settings.model_copy(update={"steps": steps + WARM_UP + 1})
        trainer = TimedTrainer(getattr(module, stage_name)(settings), settings, steps)
        try:
            trainer.fit()
        except Enough:
            return summary(trainer.starts, trainer.ends, settings.batch * settings.accumulate)
    raise RuntimeError("training ended before it was measured")


def summary(began: list[float], ended: list[float], batch: int) -> dict[str, float]:
    """Figures of the steps after the warm-up, from when the last one of it ended."""
    began, since, ended = began[WARM_UP:], ended[WARM_UP - 1], ended[WARM_UP:]
    total, busy = ended[-1] - since, sum(end - start for start, end in zip(began, ended, strict=True))
    return {"samples_a_second": batch * len(ended) / total, "idle_share": 1 - busy / total}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", default="honestface", choices=sorted(STAGES))
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures = measure(arguments.stage, arguments.config, arguments.set, arguments.steps)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    report = {"machine": {**describe_machine(), "device": device}, "stage": arguments.stage, **figures}
    print(json.dumps(report, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
