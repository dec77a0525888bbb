"""The sd21 profile on one GPU beside the released inference's own loop, both with random weights of the real shapes.

    python -m benchmarks.sd21 [--device cuda] [--dtype bfloat16] [--json FILE] [--markdown FILE]
    python -m benchmarks.sd21 --small --device cpu --dtype float32    # the same code in miniature, to see it run

The baseline is written the way OSDFace's inference works: float16, eager, one image after another, the latent step in
float64, the VRE's tokens picked in a Python loop that waits for the device at each. The roofline is what this device
reaches on a product of two bfloat16 matrices of 8192 x 8192; an image costs 4.64 TFLOP (docs/speed.md).

The last table holds the restored pixels against float32 run eagerly, and an image alone against the same one in the
largest batch. Where either is beyond the bound, the program ends with 1, after its files are written.
"""

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.autoencoder import KLAutoencoder, KLAutoencoderConfig
from models.cuda_generator import CudaGenerator
from models.honestface import HonestFace, HonestFaceConfig
from models.profiles import SD21
from models.visual_representation_embedder import nearest_codes

FLOP_AN_IMAGE = 4.64e12
SMALL_WIDTHS = (8, 8, 16, 16)
#: The most that restored pixels may differ in the mean, in grey levels of 255: what a test holds the tiny profile to.
TOLERANCE = 0.5
#: The differences of a report that are held to it, and what they say.
DIFFERENCES = {
    "mean_difference_to_float32_grey_levels": "to float32, eager",
    "mean_difference_between_batch_sizes_grey_levels": "alone and in a batch",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--batches", type=int, nargs="+", default=(1, 2, 4, 8))
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--small", action="store_true", help="few channels: a test of this program, not a measurement")
    parser.add_argument("--eager", action="store_true", help="do not compile")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    config = small(SD21) if arguments.small else SD21
    report = measure(
        config,
        arguments.device,
        getattr(torch, arguments.dtype),
        arguments.batches,
        arguments.runs,
        not arguments.eager,
    )
    print(markdown(report))
    if arguments.markdown:
        arguments.markdown.write_text(markdown(report))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    if beyond := beyond_tolerance(report):
        sys.exit(f"beyond {TOLERANCE} grey levels: {', '.join(DIFFERENCES[name] for name in beyond)}")


def small(config: HonestFaceConfig) -> HonestFaceConfig:
    """The profile with a handful of channels; everything else stays."""
    assert isinstance(config.vae, KLAutoencoderConfig)
    few = {"block_out_channels": SMALL_WIDTHS, "layers_per_block": 1, "norm_num_groups": 4}
    return replace(
        config,
        vae=KLAutoencoderConfig(config.vae.arguments | few),
        unet=config.unet | few | {"attention_head_dim": (1, 1, 2, 2)},
        vre=replace(config.vre, channels=4, residual_blocks=1, groups=4, embedding_width=16, codebook_size=128),
    )


def measure(
    config: HonestFaceConfig, device: str, dtype: torch.dtype, batches: Sequence[int], runs: int, compiled: bool = True
) -> dict[str, object]:
    """All figures of one run: seconds a batch, images a second, share of the roofline, memory, distance to float32."""
    torch.manual_seed(0)
    on = torch.device(device)
    network = HonestFace(config).eval().requires_grad_(False)
    side = config.latent_size * network.vae.patch
    faces = np.random.default_rng(0).integers(0, 256, (max(batches), side, side, 3), dtype=np.uint8)
    exact = _pixels(network.to(on), faces[:1], on)
    half = torch.float16 if on.type == "cuda" else torch.float32
    state = copy.deepcopy(network.state_dict())
    torch.nn.Module.to(network, dtype=half)
    loop = _median(lambda: released_loop(network, faces[:1], on), runs, on)
    torch.nn.Module.to(network, dtype=torch.float32).load_state_dict(state)  # half precision rounded the weights
    del state
    engine = CudaGenerator(network, on, dtype, compiled, batches)
    if on.type == "cuda":
        torch.cuda.reset_peak_memory_stats(on)
    rate = matrix_rate(on, 8192 if on.type == "cuda" else 256)
    rows = []
    for size in batches:
        started = time.perf_counter()
        _restore(engine, faces[:size])
        first = time.perf_counter() - started
        seconds = _median(lambda size=size: _restore(engine, faces[:size]), runs, on)  # type: ignore[misc]
        rows.append(
            {
                "batch": size,
                "seconds": seconds,
                "first_seconds": first,
                "images_a_second": size / seconds,
                "x_baseline": size / seconds * loop,
                "of_roofline": size * FLOP_AN_IMAGE / seconds / rate,
            }
        )
    alone = _restore(engine, faces[:1]).astype(float)
    together = _restore(engine, faces).astype(float)[:1]
    return {
        "device": torch.cuda.get_device_name(on) if on.type == "cuda" else "CPU",
        "torch": torch.__version__,
        "precision": str(dtype).removeprefix("torch."),
        "baseline_seconds_an_image": loop,
        "matrix_tflops": rate / 1e12,
        "batches": rows,
        "peak_memory_gb": torch.cuda.max_memory_allocated(on) / 1e9 if on.type == "cuda" else None,
        "mean_difference_to_float32_grey_levels": float(np.abs(alone - exact).mean()),
        "mean_difference_between_batch_sizes_grey_levels": float(np.abs(alone - together).mean()),
    }


def beyond_tolerance(report: dict[str, object]) -> list[str]:
    """The differences that are larger than they may be, or no number at all."""
    return [name for name in DIFFERENCES if not cast(float, report[name]) <= TOLERANCE]


def markdown(report: dict[str, object]) -> str:
    """The report as tables with their context."""
    lines = [f"{name}: {value}  " for name, value in report.items() if name not in ("batches", *DIFFERENCES)]
    lines += ["", "| batch | ms | images/s | x baseline | of matrix rate | first call s |", "|---|---|---|---|---|---|"]
    for row in report["batches"]:  # type: ignore[attr-defined]
        lines.append(
            f"| {row['batch']} | {1000 * row['seconds']:.1f} | {row['images_a_second']:.1f} | {row['x_baseline']:.2f} "
            f"| {row['of_roofline']:.1%} | {row['first_seconds']:.1f} |"
        )
    lines += ["", f"| mean difference of pixels | grey levels | at most {TOLERANCE} |", "|---|---|---|"]
    beyond = beyond_tolerance(report)
    for name, said in DIFFERENCES.items():
        lines.append(f"| {said} | {report[name]:.3f} | {'beyond' if name in beyond else 'within'} |")
    return "\n".join(lines) + "\n"


@torch.no_grad()
def released_loop(network: HonestFace, faces: np.ndarray, device: torch.device) -> np.ndarray:
    """Image after image as the released OSDFace inference takes them."""
    vae = network.vae
    assert isinstance(vae, KLAutoencoder)
    dtype, results = network.unet.dtype, []
    for face in faces:
        image = (torch.from_numpy(face).permute(2, 0, 1)[None].float() / 127.5 - 1).to(device, dtype)
        prompt = network.vre.projection(looped_tokens(network, image))
        latent = vae.network.encode(image).latent_dist.sample() * vae.scaling
        noise = network.unet(latent, network.diffusion.config.timestep, prompt, return_dict=False)[0]
        step = (latent.double() - network.diffusion.noise * noise.double()) / network.diffusion.signal
        restored = vae.network.decode((step / vae.scaling).to(dtype)).sample
        results.append(((restored.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)[0].permute(1, 2, 0).cpu())
    return torch.stack(results).numpy()


def looped_tokens(network: HonestFace, image: Tensor) -> Tensor:
    """The VRE's tokens `[1, n, D]`, each looked at by itself in Python."""
    vre, wanted = network.vre, network.vre.config.tokens
    embeddings = vre.encode(image)
    distances, codes = nearest_codes(embeddings, vre.codebook)
    seen: set[int] = set()
    rows = []
    for position in distances[0].argsort():
        code = int(codes[0, position].item())
        if code not in seen and len(rows) < wanted:
            seen.add(code)
            rows.append(vre.codebook[code])
    tokens = torch.stack(rows)
    return F.pad(tokens, (0, 0, 0, wanted - len(rows)))[None]


def matrix_rate(device: torch.device, side: int) -> float:
    """FLOP a second of a bfloat16 product of two square matrices."""
    one, other = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / _median(lambda: one @ other, 20, device)


def _restore(engine: CudaGenerator, faces: np.ndarray) -> np.ndarray:
    count = len(faces)
    points = torch.zeros(count, 68, 2)
    return np.stack(engine.restore_pixels(list(faces), None, points, torch.ones(count), [None] * count))


@torch.inference_mode()
def _pixels(network: HonestFace, faces: np.ndarray, device: torch.device) -> np.ndarray:
    images = torch.from_numpy(faces).permute(0, 3, 1, 2).float().to(device) / 127.5 - 1
    restored = network(images).restored
    levels = ((restored + 1) * 127.5).round().clamp(0, 255)
    return levels.permute(0, 2, 3, 1).cpu().numpy()


def _median(run: Callable[[], object], runs: int, device: torch.device) -> float:
    seconds = []
    for turn in range(runs + 2):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if turn > 1:
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
