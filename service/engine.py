"""The generator as the device thread runs it: loaded, warmed up, and with its failures told apart."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from models.aligned_face import to_network
from models.bundle import load_bundle
from models.choices import Library, Precision
from models.face_restorer import FaceJob, FaceRestorer, Options
from models.geometry import ALIGNED_SIZE, Pixels
from models.openvino_generator import OpenVINOGenerator
from models.picture import Picture
from models.references import Reference
from models.runtime import make_runtime, try_device, usable_cores
from service.batcher import DeviceLost
from service.settings import Settings

# What PyTorch says on a CPU when memory is short; there it is a plain RuntimeError.
_CPU_OUT_OF_MEMORY = "can't allocate memory"


@dataclass(frozen=True)
class ModelInfo:
    """A loaded bundle; `digests` are the SHA-256 of its files."""

    bundle: str
    version: str
    profile: str
    device: str
    precision: str
    digests: dict[str, str]


class Engine:
    """A restorer on its device; `generate` and `warm_up` belong to the device thread, its other stages to any."""

    def __init__(self, restorer: FaceRestorer, model: ModelInfo) -> None:
        self.restorer, self.model = restorer, model

    def warm_up(self, batch_sizes: Sequence[int], threads: int = 0) -> float:
        """Runs the generator at each batch size, with and without a reference, so that no request pays for first times.

        `threads` is the number of PyTorch's compute threads on a CPU, 0 for one a core; OpenVINO has its own, and
        PyTorch's would wait for work on the same cores. Returns the seconds that a face takes.
        """
        on_cpu = self.restorer.device.type == "cpu"
        if on_cpu:
            use_threads(1 if isinstance(self.restorer.generator, OpenVINOGenerator) else threads or usable_cores())
        face = self.restorer.prepare(_grey_picture(), Options(faces="aligned")).faces[0]
        scattered = torch.rand(68, 2, generator=torch.Generator().manual_seed(0)) * ALIGNED_SIZE
        reference = Reference(to_network([face.crop])[0], scattered, face.identity)
        for size in [1] if on_cpu else batch_sizes:
            self.restorer.generate([FaceJob(face)] * size)
            self.restorer.generate([FaceJob(face, (reference,))] * size)
        started = time.monotonic()
        self.restorer.generate([FaceJob(face, (reference,))])
        return time.monotonic() - started

    def generate(self, jobs: Sequence[FaceJob]) -> list[Pixels]:
        """Restored crops.

        Raises:
            MemoryError: the device has too little memory for so many.
            DeviceLost: no later call can succeed.
        """
        try:
            return self.restorer.generate(jobs)
        except torch.OutOfMemoryError as error:
            too_large = str(error)
        except torch.AcceleratorError as error:
            # A CUDA error outlives the call that met it: this process can use the device no more.
            raise DeviceLost(str(error)) from error
        except RuntimeError as error:
            if _CPU_OUT_OF_MEMORY not in str(error):
                raise
            too_large = str(error)
        # Outside the handlers: the error kept alive what the failed pass had allocated.
        torch.cuda.empty_cache()
        raise MemoryError(too_large)

    def device_memory(self) -> float:
        """Bytes allocated on the device; 0 for a CPU."""
        device = self.restorer.device
        return float(torch.cuda.memory_allocated(device)) if device.type == "cuda" else 0.0

    @property
    def device_memory_total(self) -> float:
        """Bytes that the device has; 0 for a CPU."""
        device = self.restorer.device
        return float(torch.cuda.get_device_properties(device).total_memory) if device.type == "cuda" else 0.0


def _grey_picture() -> Picture:
    return Picture(np.full((ALIGNED_SIZE, ALIGNED_SIZE, 3), 127, np.uint8))


def use_threads(threads: int) -> None:
    """Sets the calling thread's number of compute threads, and that of no other."""
    # A thread takes over the process's last setting when it first computes or asks; asking first keeps ours in place.
    torch.get_num_threads()
    torch.set_num_threads(threads)


def load_engine(
    folder: Path | None, device: str, precision: Precision = "auto", library: Library = "auto", threads: int = 0
) -> Engine:
    """The engine of a bundle; without a folder, of the tiny one that ships with the package.

    `precision`, `library` and `threads` are `make_runtime`'s.

    Raises:
        HonestFaceError: there is no such device, or the bundle is missing or damaged.
    """
    try_device(device)
    bundle = load_bundle(folder)
    manifest = bundle.manifest
    runtime = make_runtime(bundle.generator, precision, library, threads, device, manifest.activation_ranges)
    model = ModelInfo(
        bundle=manifest.name,
        version=manifest.version,
        profile=manifest.profile,
        device=device,
        precision=runtime.description,
        digests={name: file.sha256 for name, file in manifest.files.items()},
    )
    return Engine(FaceRestorer(runtime.generator, bundle.analyzer, device), model)


def engine_of(settings: Settings) -> Engine:
    """The engine that the settings ask for; raises as `load_engine` does."""
    return load_engine(settings.bundle, settings.device, settings.precision, settings.library, settings.device_threads)
