"""Convolutions in eight bits, which CPUs multiply several at once: inputs and weights rounded to 256 steps."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.errors import WeightsError
from models.honestface import HonestFace

#: The range that a convolution's inputs are rounded in, by its name in the generator; what lies outside is cut off.
ActivationRanges = Mapping[str, tuple[float, float]]

#: What reads and writes latents and places: rounded, it would show in the face.
_EXACT = ("encoder.conv_in", "encoder.places", "up.0", "conv_out", "damping", "enter")  # the last: the adapter's

#: Weights are rounded to this many steps on either side of zero: where there is AVX2 alone, two products are added in
#: 16 bits, and with 127 steps such sums reach their end often enough to be seen.
_WEIGHT_STEPS = 95

#: So many of the values of one input are looked at to find a range; of their span so much may be kept on either side.
_LOOKED_AT = 2048
_KEPT = tuple(part / 20 for part in range(20, 3, -1))


def cpu_multiplies_int8() -> bool:
    """Whether this CPU does it faster than float32: AVX2 suffices, VNNI is made for it (docs/speed.md)."""
    return bool(torch.cpu.get_capabilities().get("avx2"))


class RoundedConvolution(nn.Module):
    """A convolution of inputs that are rounded to 256 steps from `low` to `high`, and cut off there, by weights that
    are rounded to 191 for each output channel.

    It computes in float32 what a library that recognises the rounding computes with integers.
    """

    steps: Tensor
    zeros: Tensor

    def __init__(self, convolution: nn.Conv2d, low: float, high: float) -> None:
        super().__init__()
        self.convolution = convolution
        self.step, self.zero = _steps(low, high)
        steps = convolution.weight.detach().abs().amax((1, 2, 3)).clamp_min(1e-8) / _WEIGHT_STEPS
        self.register_buffer("steps", steps, persistent=False)
        self.register_buffer("zeros", torch.zeros_like(steps, dtype=torch.int32), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        layer = self.convolution
        x = torch.fake_quantize_per_tensor_affine(x, self.step, self.zero, 0, 255)
        # OpenVINO knows weights of eight bits by 255 steps, though the outer ones are never reached.
        weight = torch.fake_quantize_per_channel_affine(layer.weight, self.steps, self.zeros, 0, -127, 127)
        out: Tensor = F.conv2d(x, weight, layer.bias, layer.stride, layer.padding)
        return out


def round_convolutions(generator: HonestFace, ranges: ActivationRanges) -> None:
    """Replace the convolutions that `ranges` name.

    Raises:
        WeightsError: one of them is no convolution of this generator.
    """
    convolutions = _convolutions(generator)
    for name, (low, high) in ranges.items():
        if name not in convolutions:
            raise WeightsError(f"activation ranges: {name!r} is no convolution of this generator")
        parent, _, own = name.rpartition(".")
        setattr(generator.get_submodule(parent), own, RoundedConvolution(convolutions[name], low, high))


@contextmanager
def measured_ranges(generator: HonestFace) -> Iterator[dict[str, tuple[float, float]]]:
    """The ranges for all that the generator is given meanwhile; they are there once it is left.

    Each is the one that brings the least squared error by rounding and cutting off: a few values lie far outside.
    """
    found: dict[str, tuple[float, float]] = {}
    seen: dict[str, list[Tensor]] = {}

    def see(name: str, x: Tensor) -> None:
        apart = x.numel() // _LOOKED_AT | 1  # odd, so that all rows and columns have their turn
        seen.setdefault(name, []).append(x.detach().flatten()[::apart].float().clone())  # not a view of all

    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: see(name, inputs[0]))
        for name, layer in _convolutions(generator).items()
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
    found.update({name: _best_range(torch.cat(values)) for name, values in seen.items()})


def _best_range(values: Tensor) -> tuple[float, float]:
    counts, edges = torch.histogram(values, 2048)
    middles, low, high = (edges[1:] + edges[:-1]) / 2, min(float(values.min()), 0.0), max(float(values.max()), 0.0)

    def error(bounds: tuple[float, float]) -> float:
        rounded = torch.fake_quantize_per_tensor_affine(middles, *_steps(*bounds), 0, 255)
        return float((counts * (rounded - middles).square()).sum())

    return min(((below * low, above * high) for below in _KEPT for above in _KEPT), key=error)


def _steps(low: float, high: float) -> tuple[float, int]:
    """How far 256 steps lie apart, and which of them is zero: it must be one, for pictures are padded with it."""
    low, high = min(low, 0.0), max(high, 1e-3)
    step = (high - low) / 255
    return step, round(-low / step)


def _convolutions(generator: HonestFace) -> dict[str, nn.Conv2d]:
    """Those of the UNet and the reference adapter that can bear it; the rest places pixels, tokens and landmarks."""
    found = {}
    for part in ("unet", "reference_adapter"):
        module = getattr(generator, part)
        for name, layer in module.named_modules() if module is not None else ():
            if isinstance(layer, nn.Conv2d) and not name.startswith(_EXACT):
                found[f"{part}.{name}"] = layer
    return found
