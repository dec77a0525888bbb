"""Reads a Stable Diffusion base model from a local folder in diffusers' layout, without its loader."""

import inspect
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.autoencoder import KLAutoencoder, KLAutoencoderConfig
from models.bundle import load_exactly
from models.errors import WeightsError
from models.foreign_weights import read_weights

_WEIGHT_FILES = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
)

#: Names that the autoencoders of 2022 gave the layers of their attention, and today's.
_OLD_ATTENTION = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


def read_unet(base: Path) -> tuple[dict[str, Any], nn.Module]:
    """The UNet of a base model in float32: its arguments and itself.

    Raises `WeightsError` where the folder is incomplete, a key does not fit, or the model predicts something else than
    the noise epsilon (Stable Diffusion 2.1 without "base" predicts the velocity).
    """
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    _check_scheduler(base / "scheduler" / "scheduler_config.json")
    arguments = _arguments(base / "unet", UNet2DConditionModel)
    with torch.device("meta"):
        unet: nn.Module = UNet2DConditionModel(**arguments)
    load_exactly(unet, _weights(base / "unet"), str(base / "unet"))
    return arguments, unet


def read_vae(base: Path) -> tuple[KLAutoencoderConfig, KLAutoencoder]:
    """The autoencoder of a base model in float32; attention weights under their names of 2022 are read too."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    config = KLAutoencoderConfig(_arguments(base / "vae", AutoencoderKL))
    with torch.device("meta"):
        vae = KLAutoencoder(config)
    load_exactly(vae.network, _today(_weights(base / "vae")), str(base / "vae"))
    return config, vae


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file; a base model is a folder as diffusers saves it") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise WeightsError(f"{path} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise WeightsError(f"{path} is no configuration")
    return values


def _check_scheduler(path: Path) -> None:
    if path.is_file() and (kind := _json(path).get("prediction_type", "epsilon")) != "epsilon":
        raise WeightsError(f"{path}: the model predicts {kind}, not epsilon: it is not Stable Diffusion 2.1-base")


def _arguments(folder: Path, network: type) -> dict[str, Any]:
    """What config.json says, less diffusers' notes about itself; an unknown setting is an error."""
    values = {key: value for key, value in _json(folder / "config.json").items() if not key.startswith("_")}
    known = inspect.signature(network).parameters
    for key, value in list(values.items()):
        if key not in known:
            if value is not None:
                raise WeightsError(f"{folder / 'config.json'}: {key} is no setting of {network.__name__}")
            del values[key]
    return values


def _weights(folder: Path) -> dict[str, Tensor]:
    for name in _WEIGHT_FILES:
        if (folder / name).is_file():
            return {key: value.float() for key, value in read_weights(folder / name).items()}
    raise WeightsError(f"{folder} holds no {_WEIGHT_FILES[0]}")


def _today(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in state.items():
        if ".attentions." in key:
            for old, new in _OLD_ATTENTION.items():
                key = key.replace(old, new)
        renamed[key] = value
    return renamed
