"""The trainer in processes of its own: killed without warning, and two that train together."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def start(run: Path, *settings: str, **environment: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.training.toy_process", str(run), *settings],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"} | environment,
        stdout=subprocess.DEVNULL,
    )


def test_kill_at_any_moment_leaves_a_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    process = start(tmp_path, "steps=1000000", "checkpoint_seconds=-1")  # saves all the time
    deadline = time.monotonic() + 300
    while not checkpoint.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    process.kill()
    process.wait()
    step = torch.load(checkpoint, weights_only=True)["step"]
    assert step >= 1
    again = start(tmp_path, "steps=1000000", "max_seconds=0.0", "checkpoint_seconds=1000000")
    assert again.wait(300) == 0  # a slice of no time: one step, a checkpoint, a clean end
    assert torch.load(checkpoint, weights_only=True)["step"] == step + 1


@pytest.mark.parametrize(("optimizer", "tolerance"), [("adamw", 1e-5), ("muon", 1e-3)])
def test_two_processes_train_as_one_that_takes_both_batches(tmp_path: Path, optimizer: str, tolerance: float) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    settings = ("steps=6", "batch=2", "adversarial=true", f"optimizer={optimizer}")
    processes = [start(tmp_path / "two", *settings, **shared, RANK=rank, LOCAL_RANK=rank) for rank in ("0", "1")]
    alone = start(tmp_path / "one", *settings, "accumulate=2")
    assert [process.wait(300) for process in (*processes, alone)] == [0, 0, 0]
    two, one = (load_file(tmp_path / name / "toy.safetensors") for name in ("two", "one"))
    for name, value in one.items():
        if "running" not in name:  # each process's batch norm sees its own batches
            assert torch.allclose(two[name], value, atol=tolerance), name
    first, second = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("two", "one"))
    assert first["step"] == second["step"] == 6
    assert torch.allclose(first["adversary"]["layer.weight"], second["adversary"]["layer.weight"], atol=1e-5)
