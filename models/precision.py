"""Lower precision for the parts of a generator that take the time and can bear it."""

import torch
from torch import nn

from models.honestface import HonestFace


def cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for it; elsewhere bfloat16 is emulated, and slower than float32."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def lower_precision(generator: HonestFace, dtype: torch.dtype) -> None:
    """Put the UNet and the reference adapter in `dtype` and channels-last.

    Everything else stays: the VRE, whose choice among close codes rounding would change, and all that places pixels,
    landmarks and identities. docs/speed.md says how far that moves a face.
    """
    heavy: list[nn.Module] = [generator.unet]
    if generator.reference_adapter is not None:
        heavy += [layer for layer in generator.reference_adapter.modules() if isinstance(layer, nn.Conv2d)]
    for part in heavy:
        # not the UNet's own `to`, which would log a warning about an empty list
        nn.Module.to(part, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
