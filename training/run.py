"""Builds a stage from its YAML settings and trains it."""

import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import cast

import torch
import yaml
from pydantic import ValidationError

from models.errors import HonestFaceError
from training.stage import Stage, TrainingConfig
from training.trainer import Trainer

#: stage name -> module and the names of its config and its stage class
STAGES = {
    "detector": ("training.stages.detector", "DetectorConfig", "DetectorStage"),
    "landmarks": ("training.stages.landmarks", "LandmarksConfig", "LandmarksStage"),
    "identity": ("training.stages.identity", "IdentityConfig", "IdentityStage"),
    "vae": ("training.stages.vae", "VAEConfig", "VAEStage"),
    "vre": ("training.stages.vre", "VREStageConfig", "VREStage"),
    "baseline": ("training.stages.baseline", "BaselineConfig", "BaselineStage"),
    "honestface": ("training.stages.honestface", "HonestFaceStageConfig", "HonestFaceStage"),
}


def run(stage: str, config: Path, overrides: list[str]) -> None:
    """Train `stage` with the settings of a YAML file; `overrides` are KEY=VALUE with YAML values."""
    began = time.monotonic()
    module_name, config_name, stage_name = STAGES[stage]
    module = import_module(module_name)
    settings = load_config(config, getattr(module, config_name), overrides)
    build = cast(Callable[[TrainingConfig], Stage], getattr(module, stage_name))
    torch.manual_seed(settings.seed)  # weights that no checkpoint holds must be the same when the run goes on
    Trainer(build(settings), settings, began).fit()


def load_config(path: Path, model: type[TrainingConfig], overrides: list[str]) -> TrainingConfig:
    """Settings from YAML, checked; every mistake is one clear line."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise HonestFaceError(f"{path}: settings are a mapping of names to values")
        for override in overrides:
            name, separator, value = override.partition("=")
            if not separator:
                raise HonestFaceError(f"--set takes KEY=VALUE, not {override!r}")
            try:
                values[name] = yaml.safe_load(value)
            except yaml.YAMLError as error:
                raise HonestFaceError(f"--set {name}: {' '.join(str(error).split())}") from error
        return model.model_validate(values)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise HonestFaceError(f"{path}: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where, said = ".".join(str(part) for part in first["loc"]), first["msg"].removeprefix("Value error, ")
        raise HonestFaceError(": ".join(part for part in (str(path), where, said) if part)) from error
