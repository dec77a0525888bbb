from dataclasses import replace

import pytest
import torch

from benchmarks.sd21 import looped_tokens, markdown, measure, small
from models.honestface import HonestFace
from models.profiles import SD21


@pytest.mark.slow
def test_the_benchmark_runs_in_miniature() -> None:
    config = replace(small(SD21), latent_size=8, vre=replace(small(SD21).vre, image_size=64, attention_resolutions=()))
    report = measure(config, "cpu", torch.float32, (1, 2), runs=1, compiled=False)
    assert report["mean_difference_to_float32_grey_levels"] < 1  # type: ignore[operator]
    assert report["mean_difference_between_batch_sizes_grey_levels"] < 1  # type: ignore[operator]
    assert "| 2 |" in markdown(report) and "baseline" in markdown(report)


def test_the_looped_tokens_are_the_selected_ones() -> None:
    torch.manual_seed(0)
    network = HonestFace(small(SD21)).eval().requires_grad_(False)
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    tokens, _ = network.vre.select_tokens(network.vre.encode(image))
    assert torch.equal(looped_tokens(network, image), tokens)
