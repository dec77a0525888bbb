"""Convolutions in eight bits, which CPUs multiply several at once: inputs and weights rounded to 256 steps."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.errors import WeightsError
from models.honestface import HonestFace

#: The least and the largest value that came into a convolution, by its name in the generator.
ActivationRanges = Mapping[str, tuple[float, float]]

#: Inputs may be so much larger than the largest that was measured before they are cut off.
MARGIN = 1.1

#: Weights are rounded to this many steps on either side of zero: where there is AVX2 alone, two products are added in
#: 16 bits, and 2 * 255 * 63 is the most that fits.
_WEIGHT_STEPS = 63

#: What reads and writes latents and places, and the finest level beside it: rounded, they would show in the face.
_EXACT = (
    "encoder.conv_in",
    "encoder.places",
    "encoder.levels.0",
    "encoder.down.0",
    "up.0",
    "levels.0",
    "conv_out",
    "damping",
    "enter",  # the reference adapter's
)


def cpu_multiplies_int8() -> bool:
    """Whether this CPU does it faster than float32: AVX2 suffices, VNNI is made for it (docs/speed.md)."""
    return bool(torch.cpu.get_capabilities().get("avx2"))


class RoundedConvolution(nn.Module):
    """A convolution of inputs rounded to 256 steps from `low` to `high`, by weights rounded to 127 for each output.

    It computes in float32 what a library that recognises the rounding computes with integers.
    """

    steps: Tensor
    zeros: Tensor

    def __init__(self, convolution: nn.Conv2d, low: float, high: float) -> None:
        super().__init__()
        self.convolution = convolution
        low, high = min(MARGIN * low, 0.0), max(MARGIN * high, 1e-3)  # zero must be a step: pictures are padded with it
        self.step = (high - low) / 255
        self.zero = round(-low / self.step)
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
    """The ranges of all that the generator is given meanwhile, which go on growing until it is left."""
    found: dict[str, tuple[float, float]] = {}

    def see(name: str, x: Tensor) -> None:
        low, high = found.get(name, (0.0, 0.0))
        found[name] = (min(low, float(x.min())), max(high, float(x.max())))

    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: see(name, inputs[0]))
        for name, layer in _convolutions(generator).items()
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _convolutions(generator: HonestFace) -> dict[str, nn.Conv2d]:
    """Those of the UNet and the reference adapter that can bear it; the rest places pixels, tokens and landmarks."""
    found = {}
    for part in ("unet", "reference_adapter"):
        module = getattr(generator, part)
        for name, layer in module.named_modules() if module is not None else ():
            if isinstance(layer, nn.Conv2d) and not name.startswith(_EXACT):
                found[f"{part}.{name}"] = layer
    return found
