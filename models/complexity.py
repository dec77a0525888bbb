"""Parameters and multiply-accumulates (MACs) of networks, measured on the meta device: no weights, no arithmetic."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from models.lora import target_layers

LORA_RANK = 16


@dataclass(frozen=True)
class Cost:
    """What a network costs. `macs` are those of linear and convolution layers, as most papers count; `attention_macs`
    those of the two products inside attention, which most leave out."""

    parameters: int = 0
    macs: int = 0
    attention_macs: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.parameters + other.parameters, self.macs + other.macs, self.attention_macs + other.attention_macs
        )

    def times(self, runs: int) -> "Cost":
        """The same network run several times."""
        return Cost(self.parameters, self.macs * runs, self.attention_macs * runs)


class _FunctionCounter(TorchFunctionMode):
    """What no layer's hook sees: attention's products, and convolutions by weights that were rearranged first."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_macs = self.macs = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            inputs = dict(zip(("query", "key", "value"), args, strict=False)) | (kwargs or {})
            query, key, value = inputs["query"], inputs["key"], inputs["value"]
            products = query.numel() * key.shape[-2] + query.numel() // query.shape[-1] * value.shape[-2:].numel()
            self.attention_macs += products
        out = func(*args, **(kwargs or {}))
        if func is F.conv2d and not isinstance(args[1], nn.Parameter):
            self.macs += out.numel() * args[1][0].numel()
        return out


def _layer_macs(layer: nn.Module, output: Tensor) -> int:
    """Each output value is a sum over one row of the weight."""
    assert isinstance(layer.weight, Tensor)
    return output.numel() * layer.weight[0].numel()


def parameters(*networks: nn.Module) -> int:
    """Number of parameters; buffers do not count."""
    return sum(parameter.numel() for network in networks for parameter in network.parameters())


def measure(networks: Sequence[nn.Module], run: Callable[[], object]) -> Cost:
    """The cost of `run`, which calls `networks`: their parameters, and the MACs of all their layers that it passes."""
    macs = 0

    def add(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal macs
        macs += _layer_macs(layer, output)

    counted = (nn.Linear, nn.Conv1d, nn.Conv2d)
    layers = [layer for network in networks for layer in network.modules() if isinstance(layer, counted)]
    hooks = [layer.register_forward_hook(add) for layer in layers]
    try:
        with torch.no_grad(), _FunctionCounter() as functions:
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return Cost(parameters(*networks), macs + functions.macs, functions.attention_macs)


def measure_lora(network: nn.Module, run: Callable[[], object]) -> Cost:
    """What unmerged adapters of rank `LORA_RANK` on the paper's targets would add to `run`; merged ones add nothing."""
    total, macs = 0, 0

    def add(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal macs
        assert isinstance(layer.weight, Tensor)
        outputs, inputs = layer.weight.shape[0], layer.weight[0].numel()
        macs += output.numel() // outputs * LORA_RANK * (inputs + outputs)

    layers = [network.get_submodule(name) for name in target_layers(network)]
    for layer in layers:
        assert isinstance(layer.weight, Tensor)
        total += LORA_RANK * (layer.weight.shape[0] + layer.weight[0].numel())
    hooks = [layer.register_forward_hook(add) for layer in layers]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return Cost(total, macs)
