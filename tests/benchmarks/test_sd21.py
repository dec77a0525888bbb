import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import benchmarks.sd21 as sd21
from benchmarks.sd21 import TOLERANCE, looped_tokens, markdown, measure, small
from models.honestface import HonestFace
from models.profiles import SD21


@pytest.mark.slow
def test_the_benchmark_runs_in_miniature() -> None:
    config = replace(small(SD21), latent_size=8, vre=replace(small(SD21).vre, image_size=64, attention_resolutions=()))
    report = measure(config, "cpu", torch.float32, (1, 2), runs=1, compiled=False)
    assert report["mean_difference_to_float32_grey_levels"] <= TOLERANCE  # type: ignore[operator]
    assert report["mean_difference_between_batch_sizes_grey_levels"] <= TOLERANCE  # type: ignore[operator]
    assert "| 2 |" in markdown(report) and "baseline" in markdown(report)
    assert markdown(report).count("| within |") == 2


def report_of(to_float32: float, between: float) -> dict[str, object]:
    return {
        "mean_difference_to_float32_grey_levels": to_float32,
        "mean_difference_between_batch_sizes_grey_levels": between,
        "batches": [],
    }


@pytest.mark.parametrize("differences", [(0.6, 0.1), (0.1, 0.6), (math.nan, 0.1)])
def test_a_difference_beyond_the_bound_is_told_and_fails_after_the_files_are_written(
    differences: tuple[float, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sd21, "measure", lambda *_: report_of(*differences))
    monkeypatch.setattr(
        "sys.argv", ["sd21", "--small", "--json", str(tmp_path / "a.json"), "--markdown", str(tmp_path / "a.md")]
    )
    with pytest.raises(SystemExit) as stopped:
        sd21.main()
    assert stopped.value.code not in (None, 0)
    table = (tmp_path / "a.md").read_text()
    assert table.count("| beyond |") == 1 and table.count("| within |") == 1
    assert (tmp_path / "a.json").exists()


def test_the_bound_itself_is_within(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sd21, "measure", lambda *_: report_of(TOLERANCE, TOLERANCE))
    monkeypatch.setattr("sys.argv", ["sd21", "--small"])
    sd21.main()


def test_the_looped_tokens_are_the_selected_ones() -> None:
    torch.manual_seed(0)
    network = HonestFace(small(SD21)).eval().requires_grad_(False)
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    tokens, _ = network.vre.select_tokens(network.vre.encode(image))
    assert torch.equal(looped_tokens(network, image), tokens)
