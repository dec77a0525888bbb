"""How a bundle's generator is run on its device: in which precision and by which library."""

import os
from dataclasses import dataclass

import torch

from models import openvino_generator
from models.choices import Library, Precision
from models.cuda_generator import CudaGenerator, fits
from models.eight_bits import ActivationRanges, cpu_multiplies_int8
from models.errors import HonestFaceError
from models.face_restorer import FaceGenerator, PixelGenerator
from models.honestface import HonestFace
from models.openvino_generator import Heavy, OpenVINOGenerator
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
    ranges: ActivationRanges | None = None,
) -> Runtime:
    """Take over a generator that was loaded on the CPU; `threads` (OpenVINO's) 0 is one a core.

    `auto` is OpenVINO where it is installed and can run the generator, and bfloat16 where the CPU multiplies it; else
    int8 where it multiplies that, OpenVINO runs it and the bundle's `ranges` are known (docs/speed.md says what either
    changes). The same choice gives the same bits.

    Raises:
        HonestFaceError: OpenVINO is asked for by name and cannot be had, or the precision is not one of the device's.
        WeightsError: `ranges` are another generator's.
    """
    if torch.device(device).type != "cpu":
        return _on_gpu(generator, precision, torch.device(device))
    possible = openvino_generator.can_run(generator)
    if library == "openvino" and not possible:
        raise HonestFaceError("OpenVINO needs the extra `fast` (pip install 'honestface[fast]') and a tiny bundle")
    openvino = library != "torch" and possible
    name = _on_cpu(precision, eight_bits=openvino and ranges is not None)
    if openvino:
        return Runtime(OpenVINOGenerator(generator, threads or usable_cores(), name, ranges), f"{name}, OpenVINO")
    if name == "bfloat16":
        lower_precision(generator, torch.bfloat16)
    return Runtime(generator, f"{name}, PyTorch")


def _on_cpu(precision: Precision, eight_bits: bool) -> Heavy:
    """The precision that is asked for, or what the CPU does best; `eight_bits` says whether they can be had."""
    if precision == "float16":
        raise HonestFaceError("float16 is for a GPU; a CPU takes float32, bfloat16 or int8")
    if precision == "int8" and not eight_bits:
        raise HonestFaceError(
            "int8 is for `honestface serve` with OpenVINO (the extra `fast`) and a tiny bundle with activation ranges"
        )
    if precision != "auto":
        return precision
    if cpu_multiplies_bfloat16():
        return "bfloat16"
    return "int8" if eight_bits and cpu_multiplies_int8() else "float32"


def _on_gpu(generator: HonestFace, precision: Precision, device: torch.device) -> Runtime:
    """The sd21 profile compiled, in bfloat16 unless told otherwise; anything else as it is."""
    if precision == "int8":
        raise HonestFaceError("int8 is for a CPU")
    if device.type == "cuda" and fits(generator):
        name = "bfloat16" if precision == "auto" else precision
        return Runtime(CudaGenerator(generator, device, getattr(torch, name)), f"{name}, compiled")
    if precision not in ("auto", "float32"):
        raise HonestFaceError(f"on {device} this bundle runs in float32 only")
    return Runtime(generator.to(device), "float32, PyTorch")
