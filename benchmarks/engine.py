"""What restoring one aligned face costs, stage by stage, beside a named baseline measured in the same run.

    python -m benchmarks.engine [--runs 7] [--threads 2] [--bundle DIR]

The baseline is one 3x3 convolution of 64 channels on a 512x512 picture (19.3 GFLOP), which any machine can repeat: the
ratios say how the engine compares to it, the milliseconds only hold for the machine named.
"""

import argparse
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

from models.aligned_face import align, find_faces
from models.bundle import load_bundle
from models.face_restorer import FaceJob, FaceRestorer, Options, Prepared
from models.picture import Picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    figures = measure(FaceRestorer(*_parts(arguments.bundle)), arguments.runs)
    baseline = figures["baseline: conv 3x3, 64 channels, 512x512"]
    print(f"{platform.processor() or platform.machine()}, {arguments.threads} threads, torch {torch.__version__}\n")
    print("| stage | median ms | x baseline |\n|---|---|---|")
    for name, seconds in figures.items():
        print(f"| {name} | {seconds * 1000:.0f} | {seconds / baseline:.2f} |")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))


def measure(restorer: FaceRestorer, runs: int) -> dict[str, float]:
    """Median seconds of each stage for scikit-image's astronaut as photo and two views of her as references."""
    photo = data.astronaut()
    large = np.asarray(Image.fromarray(photo).resize((3464, 3464), Image.Resampling.BICUBIC))  # 12 MP
    face = align(restorer.analyzer, photo, find_faces(restorer.analyzer, photo)[:1])[0]
    views = [Picture(photo), Picture(np.ascontiguousarray(photo[:, ::-1]))]
    references = tuple(restorer.prepare_references(views))
    options = Options(diagnostics="none")
    prepared = Prepared(Picture(face.crop), (face,))
    blind, referenced = (FaceJob(face),), (FaceJob(face, references),)
    convolution = torch.nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    planes = torch.rand(1, 64, 512, 512).to(memory_format=torch.channels_last)

    def aligned_face(with_references: bool) -> None:
        fresh = tuple(restorer.prepare_references(views)) if with_references else references
        jobs = (FaceJob(face, fresh),)
        restorer.finish(prepared, jobs, restorer.generate(jobs), options)

    stages: dict[str, Callable[[], object]] = {
        "baseline: conv 3x3, 64 channels, 512x512": lambda: convolution(planes),
        "generate, no references": lambda: restorer.generate(blind),
        "generate, 2 references": lambda: restorer.generate(referenced),
        "aligned face end to end, 2 references cached": lambda: aligned_face(False),
        "aligned face end to end, 2 references": lambda: aligned_face(True),
        "512x512 photo, 2 references cached": lambda: restorer.restore(Picture(photo), references, options),
        "12 MP photo, 2 references cached": lambda: restorer.restore(Picture(large), references, options),
        "with the honesty report": lambda: restorer.restore(Picture(photo), references),
    }
    with torch.inference_mode():
        return {name: _median(run, runs) for name, run in stages.items()}


def _median(run: Callable[[], object], runs: int) -> float:
    run()
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _parts(folder: Path | None):  # type: ignore[no-untyped-def]
    bundle = load_bundle(folder)
    return bundle.generator, bundle.analyzer


if __name__ == "__main__":
    main()
