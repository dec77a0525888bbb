"""Handing components from stage to stage as safetensors, one file each, named after the generator's parts."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.bundle import load_exactly
from models.errors import WeightsError


def load_component(module: nn.Module, path: Path) -> None:
    """Fill a module with the weights of a file, keys and shapes checked.

    Raises:
        WeightsError: the file is missing, damaged or does not fit.
    """
    if not path.is_file():
        raise WeightsError(f"{path} is missing: train the stage before this one first")
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
