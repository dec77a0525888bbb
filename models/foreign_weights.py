"""Reads weight files that others published, for the offline converters only: the runtime reads safetensors alone."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from models.errors import WeightsError


class _Inert:
    """Stands in for every class that a checkpoint names besides tensors; takes anything, does nothing.

    Checkpoints of training frameworks carry callbacks and settings beside the weights. torch's safe loader refuses
    their classes; with stand-ins it reads the weights, and none of the named code is imported or run.
    """

    def __new__(cls, *_: Any, **__: Any) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file, or of a torch file (`.ckpt`, `.pth`, `.pt`, `.bin`, `.tar`), on the CPU.

    Of a checkpoint it is the `state_dict`. Raises `WeightsError` for a file that is missing, damaged or holds none.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{path} cannot be read: {error}") from None
    content = _unpickle(path)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{path} holds no weights: a mapping of names to tensors is needed")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise WeightsError(f"{path} holds no plain weights: {key} is a {type(value).__name__}")
    return dict(content)


def _unpickle(path: Path) -> Any:
    try:
        named = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except ValueError:
        named = []  # an old file that cannot be listed: then the safe loader must do without stand-ins
    except Exception as error:
        raise WeightsError(f"{path} cannot be read: {error}") from None
    try:
        with torch.serialization.safe_globals([(_Inert, name) for name in named]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, AttributeError, TypeError):
        # torch's own words advise to switch the safe loader off
        raise WeightsError(f"{path} cannot be read: it is damaged, or holds code instead of weights") from None
