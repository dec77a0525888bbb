"""Low-rank adapters on the UNet: merged into its weights when a bundle is made (ADR 020), added to it for training.

A LoRA of rank r adds (alpha / r) B A to a weight; for a convolution A is `[r, in, kH, kW]` and B `[out, r, 1, 1]`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.errors import WeightsError

#: The layers that OSEDiff adapts, by the end of their names; the paper does not say which it takes.
OSEDIFF_TARGETS = (
    "to_k", "to_q", "to_v", "to_out.0", "conv", "conv1", "conv2", "conv_in", "conv_shortcut", "conv_out",
    "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2",
)  # fmt: skip
#: And what only the tiny profile's UNet has.
_TARGETS = (*OSEDIFF_TARGETS, "damping")

#: What files put before the UNet's own names.
_PREFIX = "unet."
#: The two ways in which files name A and B: peft's, and diffusers' older one.
_SUFFIXES = {
    ".lora_A.weight": "A",
    ".lora_B.weight": "B",
    ".lora.down.weight": "A",
    ".lora.up.weight": "B",
}


@dataclass(frozen=True)
class _Side:
    key: str
    tensor: Tensor


def target_layers(module: nn.Module) -> list[str]:
    """Names of the linear and convolution layers to adapt: equal to a target, or ending in a dot and one."""
    ends = tuple(f".{target}" for target in _TARGETS)
    return [
        name
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d) and f".{name}".endswith(ends)
    ]


def _layer_and_side(key: str) -> tuple[str, str]:
    for suffix, side in _SUFFIXES.items():
        if key.endswith(suffix):
            return key.removeprefix(_PREFIX).removesuffix(suffix), side
    raise WeightsError(f"{key} is not a LoRA key: it ends in none of {', '.join(_SUFFIXES)}")


def _delta(name: str, weight: Tensor, down: _Side, up: _Side, alpha: float) -> Tensor:
    """(alpha / r) B A in float32, in the weight's shape."""
    rank = down.tensor.shape[0]
    if down.tensor.shape[1:] != weight.shape[1:]:
        raise WeightsError(f"{down.key} is {list(down.tensor.shape)}, which does not fit {name} {list(weight.shape)}")
    expected = [weight.shape[0], rank] + [1] * (weight.ndim - 2)
    if list(up.tensor.shape) != expected:
        raise WeightsError(f"{up.key} is {list(up.tensor.shape)}, not {expected}")
    b = up.tensor.to(weight.device, torch.float32).flatten(1)
    a = down.tensor.to(weight.device, torch.float32).flatten(1)
    return (alpha / rank) * (b @ a).view_as(weight)


def merge_lora(module: nn.Module, state: Mapping[str, Tensor], alpha: float = 16.0) -> None:
    """Add the adapters of `state` to the weights of `module`, in place: summed in float32, then cast.

    Both key styles are read, also mixed in one file, with or without `unet.` in front. A key that is not used, a side
    without its partner and a shape that does not fit raise `WeightsError` before any weight has changed.
    """
    sides: dict[str, dict[str, _Side]] = {}
    for key, tensor in state.items():
        name, side = _layer_and_side(key)
        pair = sides.setdefault(name, {})
        if side in pair:
            raise WeightsError(f"{key} and {pair[side].key} are the same adapter twice")
        pair[side] = _Side(key, tensor)
    if not sides:
        raise WeightsError("the LoRA file holds no adapter")
    weights = dict(module.named_parameters())
    deltas: list[tuple[nn.Parameter, Tensor]] = []
    for name, pair in sides.items():
        for side, other in (("A", "B"), ("B", "A")):
            if side not in pair:
                raise WeightsError(f"{pair[other].key} has no partner: the file holds no LoRA {side} for {name}")
        weight = weights.get(f"{name}.weight")
        if weight is None:
            raise WeightsError(f"{pair['A'].key} adapts {name}, which the network does not have")
        deltas.append((weight, _delta(name, weight, pair["A"], pair["B"], alpha)))
    with torch.no_grad():
        for weight, delta in deltas:
            weight.copy_(weight.float() + delta)


def add_adapters(module: nn.Module, rank: int = 16, alpha: int = 16) -> None:
    """Put trainable adapters on the `target_layers` through peft, in place, and freeze everything else.

    The output does not change until they are trained (B starts at zero).
    """
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=target_layers(module), bias="none")
    inject_adapter_in_model(config, module)


def adapter_state(module: nn.Module) -> dict[str, Tensor]:
    """The adapters that `add_adapters` put on `module`, as `merge_lora` reads them: `unet.<layer>.lora_A.weight`."""
    return {
        _PREFIX + name.replace(".default.weight", ".weight"): parameter.detach().cpu().clone()
        for name, parameter in module.named_parameters()
        if ".lora_A.default." in name or ".lora_B.default." in name
    }
