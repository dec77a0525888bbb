"""The GPU's generator on the CPU at small scale: everything but streams, graphs and pinned memory."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.aligned_face import to_network, to_pixels
from models.cuda_generator import CudaGenerator
from models.honestface import HonestFaceConfig
from models.references import References
from tests.small_generator import SIDE, SMALL, SMALL_SD21, identities, landmarks, references, small_generator

#: Attention as SD 2.1 has it, where queries, keys and values are one projection.
CONFIG: HonestFaceConfig = replace(SMALL_SD21, unet=SMALL_SD21.unet | {"use_linear_projection": True})


def crops(count: int) -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(0)
    return list(random.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8))


def make(
    compiled: bool = False, dtype: torch.dtype = torch.float32, buckets: tuple[int, ...] = (1, 2)
) -> CudaGenerator:
    return CudaGenerator(small_generator(CONFIG), "cpu", dtype, compiled, buckets)


def run(network: CudaGenerator, count: int = 3, seeds: tuple[int | None, ...] = (None, 7, None)) -> NDArray[np.uint8]:
    known = references(3)
    packed = References.pack([known[:2], (), known[2:]][:count])
    strength = torch.tensor([1.0, 0.5, 1.0])[:count]
    found = network.restore_pixels(crops(3)[:count], packed, landmarks(3)[:count], strength, seeds[:count])
    return np.stack(found)


@torch.inference_mode()
def test_it_restores_like_the_plain_generator_whatever_the_bucket() -> None:
    known = references(3)
    packed = References.pack([known[:2], (), known[2:]])
    plain = small_generator(CONFIG)(
        to_network(crops(3)), packed, landmarks(3), identities(3), torch.tensor([1.0, 0.5, 1.0]), (None, 7, None)
    )
    expected = np.stack(to_pixels(plain.restored)).astype(int)
    assert np.abs(run(make()) - expected).max() <= 1, "two of a bucket of two, then one of a bucket of one"
    assert np.abs(run(make(), seeds=(None,) * 3) - expected)[1].max() > 1, "the seed drew"


def test_a_face_depends_on_its_batch_mates_by_rounding_at_most() -> None:
    assert np.abs(run(make(), 2)[:1].astype(int) - run(make(), 1)).max() <= 1


def test_bfloat16_stays_near() -> None:
    difference = np.abs(run(make(dtype=torch.bfloat16)).astype(int) - run(make()))
    assert 0 < difference.mean() < 2


def test_the_compiler_takes_every_step_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """One graph a step, without a break: what CUDA graphs need. Generating C++ or Triton code would take minutes."""
    compiler = torch.compile

    def whole(step: Callable[..., Tensor], **_: object) -> Callable[..., Tensor]:
        return compiler(step, backend="aot_eager", fullgraph=True, dynamic=False)

    monkeypatch.setattr(torch, "compile", whole)
    compiled = run(make(compiled=True, buckets=(1,)), count=1).astype(int)
    assert np.abs(compiled - run(make(), count=1)).max() <= 1


def test_the_tiny_profile_does_not_fit() -> None:
    with pytest.raises(ValueError, match="KL autoencoder"):
        CudaGenerator(small_generator(SMALL), "cpu")
