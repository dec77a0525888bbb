"""How a bundle's generator is run on its device: in which precision and by which library."""

import os
from dataclasses import dataclass

import torch

from models import openvino_generator
from models.choices import Library, Precision
from models.cuda_generator import CudaGenerator, fits
from models.errors import HonestFaceError
from models.face_restorer import FaceGenerator, PixelGenerator
from models.honestface import HonestFace
from models.openvino_generator import OpenVINOGenerator
from models.precision import cpu_multiplies_bfloat16, lower_precision


@dataclass(frozen=True, eq=False)
class Runtime:
    """A generator ready to run, and in words what runs it."""

    generator: FaceGenerator | PixelGenerator
    description: str


def usable_cores() -> int:
    """The cores that this process may use: fewer than the machine has in a container or under taskset."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def try_device(device: torch.device | str) -> None:
    """Raises HonestFaceError, in one line, if PyTorch cannot compute there."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise HonestFaceError(f"device {str(device)!r} cannot be used here: {str(error).splitlines()[0]}") from error


def make_runtime(
    generator: HonestFace,
    precision: Precision = "auto",
    library: Library = "auto",
    threads: int = 0,
    device: torch.device | str = "cpu",
) -> Runtime:
    """Take over a generator that was loaded on the CPU; `threads` (OpenVINO's) 0 is one a core.

    `auto` is bfloat16 where the CPU multiplies it (docs/speed.md says what that changes), and OpenVINO
    where it is installed and can run the generator. The same choice gives the same bits.

    Raises:
        HonestFaceError: OpenVINO is asked for by name and cannot be had, or the precision is not one of the device's.
    """
    if torch.device(device).type != "cpu":
        return _on_gpu(generator, precision, torch.device(device))
    if precision == "float16":
        raise HonestFaceError("float16 is for a GPU; a CPU takes float32 or bfloat16")
    bfloat16 = precision == "bfloat16" or (precision == "auto" and cpu_multiplies_bfloat16())
    name = "bfloat16" if bfloat16 else "float32"
    possible = openvino_generator.can_run(generator)
    if library == "openvino" and not possible:
        raise HonestFaceError("OpenVINO needs the extra `fast` (pip install 'honestface[fast]') and a tiny bundle")
    if library != "torch" and possible:
        return Runtime(OpenVINOGenerator(generator, threads or usable_cores(), bfloat16), f"{name}, OpenVINO")
    if bfloat16:
        lower_precision(generator, torch.bfloat16)
    return Runtime(generator, f"{name}, PyTorch")


def _on_gpu(generator: HonestFace, precision: Precision, device: torch.device) -> Runtime:
    """The sd21 profile compiled, in bfloat16 unless told otherwise; anything else as it is."""
    if device.type == "cuda" and fits(generator):
        name = "bfloat16" if precision == "auto" else precision
        return Runtime(CudaGenerator(generator, device, getattr(torch, name)), f"{name}, compiled")
    if precision not in ("auto", "float32"):
        raise HonestFaceError(f"on {device} this bundle runs in float32 only")
    return Runtime(generator.to(device), "float32, PyTorch")
