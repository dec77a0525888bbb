"""Handing components from stage to stage as safetensors, one file each, named after the generator's parts."""

from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.bundle import load_exactly
from models.errors import WeightsError
from models.honestface import HonestFace, HonestFaceConfig
from models.profiles import TINY

SHAPE = "generator.json"


class GeneratorShape(BaseModel):
    """What `generator.json` says of the components beside it, in the bundle manifest's words."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    profile: str
    generator: HonestFaceConfig


def load_component(module: nn.Module, path: Path) -> None:
    """Fill a module with the weights of a file, keys and shapes checked.

    Raises:
        WeightsError: the file is missing, damaged or does not fit.
    """
    if not path.is_file():
        raise WeightsError(f"{path} is missing: train the stage that makes it first")
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise WeightsError(f"{path} cannot be read: {error}") from None
    # copies: the loaded tensors are the mapped file itself, which a later export may write over; a bundle's are halves
    load_exactly(module, {k: _trainable(v) for k, v in state.items()}, str(path))


def _trainable(value: Tensor) -> Tensor:
    return value.to(torch.float32, copy=True) if value.is_floating_point() else value.clone()


def save_component(module: nn.Module, path: Path) -> None:
    """Write all weights and buffers of a module."""
    save_file({k: v.detach().contiguous().cpu() for k, v in module.state_dict().items()}, path)


def save_components(network: nn.Module, folder: Path) -> None:
    """Write every child of `network` that has weights as `folder/NAME.safetensors`."""
    for name, child in network.named_children():
        if child.state_dict():
            save_component(child, folder / f"{name}.safetensors")


def save_generator(network: HonestFace, profile: str, folder: Path) -> None:
    """Write a generator's components and, beside them, the shapes that they have."""
    save_components(network, folder)
    shape = GeneratorShape(profile=profile, generator=network.config)
    (folder / SHAPE).write_text(shape.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_shape(folder: Path) -> GeneratorShape:
    """The shapes of a run's components; runs of up to 0.12.0 have no such file: they are of the tiny profile.

    Raises:
        WeightsError: the file is damaged.
    """
    path = folder / SHAPE
    if not path.exists():
        return GeneratorShape(profile="tiny", generator=TINY)
    try:
        return GeneratorShape.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise WeightsError(": ".join(part for part in (str(path), where, first["msg"]) if part)) from None
