"""What restoring a face costs on this CPU, stage by stage, beside the generators that users would pick instead.

    python -m benchmarks.engine [--runs 7] [--threads 2] [--bundle DIR] [--no-rivals] [--json FILE] [--markdown FILE]

One run measures everything in turns, round after round, so that whatever else the machine does meets all alike. The
ratios say how things compare; the milliseconds hold only for the machine named. The baseline is one 3x3 convolution of
64 channels on a 512x512 picture (19.3 GFLOP), which any machine can repeat.
"""

import argparse
import copy
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data

from benchmarks.rivals import RIVALS
from models.aligned_face import align, find_faces
from models.bundle import Bundle, load_bundle
from models.choices import Precision
from models.eight_bits import cpu_multiplies_int8
from models.face_restorer import REDUCED_SIDE, FaceJob, FaceRestorer, Options, Prepared
from models.openvino_generator import OpenVINOGenerator, can_run
from models.picture import Picture, decode, encode
from models.runtime import cpu_multiplies_bfloat16, make_runtime, usable_cores

BASELINE = "baseline: conv 3x3, 64 channels, 512x512, float32"
FACE = "aligned face, 2 references cached, device time"
Stages = dict[str, Callable[[], object]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--no-rivals", action="store_true", help="leave out the slow architectures")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--markdown", type=Path, help="write the table here as well")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    stages, description = build(load_bundle(arguments.bundle), arguments.threads, not arguments.no_rivals)
    figures = measure(stages, arguments.runs)
    machine = {**describe_machine(), "threads": arguments.threads, "runs": arguments.runs, "runtime": description}
    table = markdown(figures, machine)
    print(table)
    if arguments.markdown:
        arguments.markdown.write_text(table)
    if arguments.json:
        seconds = {name: {"median": statistics.median(times), "best": min(times)} for name, times in figures.items()}
        arguments.json.write_text(json.dumps({"machine": machine, "seconds": seconds}, indent=2) + "\n")


def build(bundle: Bundle, threads: int, rivals: bool) -> tuple[Stages, str]:
    """What is measured: scikit-image's astronaut as photo, two views of her as references; and the chosen runtime."""
    plain = FaceRestorer(bundle.generator, bundle.analyzer)
    variants = {"float32, PyTorch": plain}
    if cpu_multiplies_bfloat16():
        lower = make_runtime(copy.deepcopy(bundle.generator), "bfloat16", "torch").generator
        variants["bfloat16, PyTorch"] = FaceRestorer(lower, bundle.analyzer)
    ranges = bundle.manifest.activation_ranges
    runtime = make_runtime(copy.deepcopy(bundle.generator), threads=threads, ranges=ranges)
    restorer = FaceRestorer(runtime.generator, bundle.analyzer)
    if can_run(bundle.generator):
        variants[runtime.description] = restorer
        others: tuple[Precision, ...] = ("float32", "int8") if ranges and cpu_multiplies_int8() else ("float32",)
        for precision in others:
            other = make_runtime(copy.deepcopy(bundle.generator), precision, "openvino", threads, ranges=ranges)
            variants.setdefault(other.description, FaceRestorer(other.generator, bundle.analyzer))

    photo = data.astronaut()
    large = np.asarray(Image.fromarray(photo).resize((3464, 3464), Image.Resampling.BICUBIC))  # 12 MP
    file = encode(large, None, "jpeg", 95)
    face = align(bundle.analyzer, photo, find_faces(bundle.analyzer, photo)[:1])[0]
    views = [Picture(photo), Picture(np.ascontiguousarray(photo[:, ::-1]))]
    references = tuple(plain.prepare_references(views))
    options = Options(diagnostics="none")
    prepared = Prepared(Picture(face.crop), (face,))
    blind, referenced = (FaceJob(face),), (FaceJob(face, references),)
    crops = plain.generate(referenced)
    on_large = plain.prepare(Picture(large), options)
    jobs_on_large = tuple(FaceJob(found, references) for found in on_large.faces)
    convolution = torch.nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    planes = torch.rand(1, 64, 512, 512).to(memory_format=torch.channels_last)

    def reduced() -> Picture:
        return decode(file, least_side=REDUCED_SIDE)

    def file_to_file() -> bytes:
        restored = restorer.restore(decode(file), references, options).picture
        return encode(restored.pixels, None, "jpeg", 95)

    def device(by: FaceRestorer, jobs: tuple[FaceJob, ...]) -> list[np.ndarray]:
        """As the service's device thread does it: PyTorch's threads do not wait beside OpenVINO's."""
        torch.set_num_threads(1 if isinstance(by.generator, OpenVINOGenerator) else threads)
        try:
            return by.generate(jobs)
        finally:
            torch.set_num_threads(threads)

    stages: Stages = {BASELINE: lambda: convolution(planes), FACE: lambda: device(restorer, referenced)}
    for name, variant in variants.items():
        stages[f"{FACE} ({name})"] = lambda variant=variant: device(variant, referenced)  # type: ignore[misc]
    stages |= {
        "aligned face, no references, device time": lambda: device(restorer, blind),
        "aligned face end to end, 2 references cached": lambda: restorer.finish(
            prepared, referenced, device(restorer, referenced), options
        ),
        "analysing a reference (512 px photo)": lambda: restorer.prepare_references(views[:1]),
        "512 px photo, 2 references cached": lambda: restorer.restore(Picture(photo), references, options),
        "512 px photo with the honesty report": lambda: restorer.restore(Picture(photo), references),
        "analysing a reference (12 MP JPEG), read in full": lambda: plain.prepare_references([decode(file)]),
        "analysing a reference (12 MP JPEG), read reduced": lambda: plain.prepare_references([reduced()]),
        "12 MP: decode JPEG": lambda: decode(file),
        "12 MP: find faces": lambda: find_faces(bundle.analyzer, large),
        "12 MP: find faces, align": lambda: restorer.prepare(Picture(large), options),
        "12 MP: colour fix, paste back": lambda: restorer.finish(on_large, jobs_on_large, crops, options),
        "12 MP: encode JPEG": lambda: encode(large, None, "jpeg", 95),
        "12 MP photo, 2 references cached": lambda: restorer.restore(Picture(large), references, options),
        "12 MP photo, file to file": file_to_file,
    }
    if rivals:
        noise = torch.rand(1, 3, 512, 512) * 2 - 1
        for name, (make, _) in RIVALS.items():
            network = make().eval().requires_grad_(False)
            stages[f"rival: {name}, float32"] = lambda network=network: network(noise)  # type: ignore[misc]
    return stages, runtime.description


#: Seconds between stages.
_REST = 0.05


@torch.inference_mode()
def measure(stages: Stages, runs: int) -> dict[str, list[float]]:
    """Seconds of each stage, `runs` times in turns after one turn to warm up.

    Between stages the machine rests: PyTorch's threads go on spinning for some milliseconds when their work is done.
    """
    figures: dict[str, list[float]] = {name: [] for name in stages}
    for turn in range(runs + 1):
        for name, stage in stages.items():
            time.sleep(_REST)
            started = time.perf_counter()
            stage()
            if turn:
                figures[name].append(time.perf_counter() - started)
    return figures


def markdown(figures: dict[str, list[float]], machine: dict[str, object]) -> str:
    """The table: milliseconds, and how often the device time of a face fits into each."""
    middle = {name: statistics.median(times) for name, times in figures.items()}
    lines = [", ".join(f"{name} {value}" for name, value in machine.items()), ""]
    lines += ["| stage | median ms | best ms | x baseline | x a face |", "|---|---|---|---|---|"]
    lines += [
        f"| {name} | {1000 * middle[name]:.0f} | {1000 * min(times):.0f} | {middle[name] / middle[BASELINE]:.2f} "
        f"| {middle[name] / middle[FACE]:.2f} |"
        for name, times in figures.items()
    ]
    return "\n".join(lines) + "\n"


def describe_machine() -> dict[str, object]:
    """What the figures hold for."""
    capabilities = torch.cpu.get_capabilities()
    return {
        "cpu": capabilities.get("cpu_name") or platform.processor() or platform.machine(),
        "cores": usable_cores(),
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    main()
