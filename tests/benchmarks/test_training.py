from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState

from benchmarks.training import measure, summary
from training.run import STAGES


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(STAGES, "toy", ("tests.training.toy_stage", "ToyConfig", "ToyStage"))
    threads = torch.get_num_threads()
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)
    torch.set_num_threads(threads)


def test_a_stage_is_measured_and_nothing_is_kept(tmp_path: Path, toy: None) -> None:
    path = tmp_path / "toy.yaml"
    values = {"data": str(tmp_path), "steps": 2, "batch": 4, "run": "unused", "workers": 0, "threads": 1}
    path.write_text(yaml.safe_dump(values | {"precision": "fp32"}))
    figures = measure("toy", path, ["width=3"], steps=4)
    assert figures["samples_a_second"] > 0 and 0 <= figures["idle_share"] < 1
    assert list(tmp_path.iterdir()) == [path]


def test_the_warm_up_does_not_count() -> None:
    began, ended = [0.0, 5.0, 6.0, 8.0, 10.0], [4.0, 5.5, 7.0, 9.0, 11.0]
    assert summary(began, ended, batch=8) == {"samples_a_second": 4.0, "idle_share": 0.5}
