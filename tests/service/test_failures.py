"""Starting, a device that fails, falls silent or dies, and the end of the process."""

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import torch

from models.picture import Picture, decode
from tests.service.running import (
    ANNA_PHOTO,
    Steerable,
    problem,
    running,
    toy_engine,
    until,
)


def test_probes_while_starting() -> None:
    gate = threading.Event()

    def slowly() -> object:
        gate.wait(10)
        return toy_engine()

    with running(slowly, wait=False) as toy:  # type: ignore[arg-type]
        assert [toy.client.get(f"/{probe}").status_code for probe in ("livez", "startupz", "readyz")] == [200, 503, 503]
        assert toy.client.get("/health").json()["status"] == "starting"
        response = toy.client.post("/restore", files={"image": ANNA_PHOTO})
        problem(response, "not-ready", 503)
        assert response.headers["retry-after"]
        problem(toy.client.get("/models"), "not-ready", 503)
        gate.set()
        until(lambda: toy.client.get("/readyz").status_code == 200)
        assert toy.client.get("/startupz").status_code == 200


def test_memory_failures_halve_and_an_exception_fails_its_batch_only() -> None:
    generator = Steerable()
    with running(lambda: toy_engine(generator)) as toy:

        def status() -> int:
            return toy.client.post("/restore", files={"image": ANNA_PHOTO}).status_code

        generator.failures.append(torch.OutOfMemoryError("short"))
        problem(toy.client.post("/restore", files={"image": ANNA_PHOTO}), "out-of-memory", 503)
        assert status() == 200
        generator.failures.append(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))
        problem(toy.client.post("/restore", files={"image": ANNA_PHOTO}), "out-of-memory", 503)
        assert status() == 200
        generator.failures.append(ValueError("broken"))
        response = toy.client.post("/restore", files={"image": ANNA_PHOTO})
        assert "broken" not in problem(response, "internal-error", 500)
        assert status() == 200
        assert toy.metric("honestface_out_of_memory_total") == 2


def test_a_batch_that_does_not_fit_is_halved_and_everybody_is_answered() -> None:
    generator = Steerable()
    with running(lambda: toy_engine(generator), max_batch=4) as toy, ThreadPoolExecutor(5) as pool:

        def ask(strength: float) -> bytes:
            answer = httpx.post(
                toy.url + "/restore", files={"image": ANNA_PHOTO}, data={"strength": strength}, timeout=30
            )
            assert answer.status_code == 200, answer.text
            return answer.content

        alone = [ask(index / 4) for index in range(5)]
        generator.gate.clear()
        calls = generator.calls
        first = pool.submit(ask, 1.0)
        until(lambda: generator.calls == calls + 1)
        four = [pool.submit(ask, index / 4) for index in range(4)]
        until(lambda: toy.service.pipeline.batcher.waiting == 4)
        generator.failures += [MemoryError("short"), MemoryError("short")]
        # The first face passes, the batch of four fails, so does its first half.
        generator.skip = 1
        generator.gate.set()
        assert [each.result() for each in four] == alone[:4] and first.result() == alone[4]
        assert toy.metric("honestface_out_of_memory_total") == 2
        assert toy.metric('honestface_batches_total{reason="halved"}') == 3


def test_a_silent_device_thread_turns_livez_to_503_until_it_speaks_again() -> None:
    generator = Steerable()
    with running(lambda: toy_engine(generator), stall_s=1.5) as toy, ThreadPoolExecutor(1) as pool:
        assert toy.client.get("/livez").status_code == 200
        generator.gate.clear()
        asked = pool.submit(httpx.post, toy.url + "/restore", files={"image": ANNA_PHOTO}, timeout=30)
        until(lambda: toy.client.get("/livez").status_code == 503)
        generator.gate.set()
        assert asked.result().status_code == 200
        assert toy.client.get("/livez").status_code == 200


def test_a_decoder_that_comes_to_no_end_turns_livez_to_503_until_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()

    def held(*given: object) -> Picture:
        gate.wait(30)
        return decode(*given)  # type: ignore[arg-type]

    monkeypatch.setattr("service.restoration.decode", held)
    with running(stall_s=1.5, cpu_workers=2) as toy, ThreadPoolExecutor(1) as pool:
        assert toy.client.get("/livez").status_code == 200
        asked = pool.submit(httpx.post, toy.url + "/restore", files={"image": ANNA_PHOTO}, timeout=30)
        until(lambda: toy.client.get("/livez").status_code == 503)
        assert toy.client.get("/readyz").status_code == 503
        gate.set()
        assert asked.result().status_code == 200
        assert toy.client.get("/livez").status_code == 200


def test_a_dead_device_ends_the_process() -> None:
    generator = Steerable()
    with running(lambda: toy_engine(generator), death_grace_s=0.5) as toy:
        generator.failures.append(torch.AcceleratorError("CUDA error: an illegal memory access was encountered"))
        problem(toy.client.post("/restore", files={"image": ANNA_PHOTO}), "device-failed", 503)
        assert toy.client.get("/livez").status_code == 503
        assert toy.client.get("/readyz").status_code == 503
        assert toy.client.get("/health").json()["status"] == "failed"
        problem(toy.client.post("/restore", files={"image": ANNA_PHOTO}), "device-failed", 503)
        toy.thread.join(10)
        assert not toy.thread.is_alive()


def test_draining_finishes_work_and_refuses_new() -> None:
    generator = Steerable()
    with running(lambda: toy_engine(generator), drain_s=10) as toy:
        generator.gate.clear()
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(httpx.post, toy.url + "/restore", files={"image": ANNA_PHOTO}, timeout=30)
            until(lambda: toy.service.admission.requests == 1)
            toy.server.handle_exit(15, None)
            assert toy.client.get("/readyz").status_code == 503
            assert toy.client.get("/livez").status_code == 200
            response = toy.client.post("/restore", files={"image": ANNA_PHOTO})
            problem(response, "draining", 503)
            assert response.headers["retry-after"]
            generator.gate.set()
            assert asked.result().status_code == 200
        toy.thread.join(10)
        assert not toy.thread.is_alive() and toy.service.death is None
