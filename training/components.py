"""Handing components from stage to stage as safetensors, one file each, named after the generator's parts."""

from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import nn

from models.bundle import load_exactly
from models.errors import WeightsError


def load_component(module: nn.Module, path: Path) -> None:
    """Fill a module with the weights of a file, keys and shapes checked.

    Raises:
        WeightsError: the file is missing or does not fit.
    """
    if not path.is_file():
        raise WeightsError(f"{path} is missing: train the stage before this one first")
    load_exactly(module, load_file(path), str(path))


def save_components(network: nn.Module, folder: Path) -> None:
    """Write every child of `network` that has weights as `folder/NAME.safetensors`."""
    for name, child in network.named_children():
        if state := child.state_dict():
            save_file({k: v.detach().contiguous().cpu() for k, v in state.items()}, folder / f"{name}.safetensors")
