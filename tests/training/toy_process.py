"""Trains the toy stage in a process of its own: `python -m tests.training.toy_process RUN [KEY=VALUE...]`."""

import sys
from pathlib import Path

import torch
import yaml

from tests.training.toy_stage import ToyConfig, ToyStage
from training.trainer import Trainer


def main(run: Path, overrides: list[str]) -> None:
    settings: dict[str, object] = {"data": run, "run": run, "batch": 4, "learning_rate": 0.05, "warmup": 3}
    settings |= {"precision": "fp32", "workers": 0, "threads": 1}
    settings |= {name: yaml.safe_load(value) for name, _, value in (entry.partition("=") for entry in overrides)}
    config = ToyConfig.model_validate(settings)
    Trainer(ToyStage(config), config).fit()
    if torch.distributed.is_initialized():
        sys.exit("the group of processes is still open")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
