import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from service.batcher import Batcher, DeadlinePassed, DeviceLost, Done, QueueFull

LATER = float("inf")


@dataclass
class Recorder:
    batches: list[tuple[int, str]] = field(default_factory=list)
    drops: list[str] = field(default_factory=list)
    ooms: int = 0

    def batch(self, size: int, reason: str, seconds: float) -> None:
        self.batches.append((size, reason))

    def waited(self, seconds: float) -> None: ...

    def dropped(self, reason: str) -> None:
        self.drops.append(reason)

    def out_of_memory(self) -> None:
        self.ooms += 1


@dataclass
class Rig:
    batcher: Batcher[int, int]
    seen: Recorder
    gate: threading.Event
    started: threading.Event
    deaths: list[BaseException]

    def submit(self, *payloads: int, deadline: float = LATER) -> list[Future[Done[int]]]:
        return self.batcher.submit(payloads, deadline)

    def occupy(self) -> Future[Done[int]]:
        """Puts one item on the device and holds it there until the gate opens."""
        self.gate.clear()
        self.started.clear()
        (future,) = self.submit(0)
        assert self.started.wait(5)
        return future


@contextmanager
def rig(
    run: Callable[[Sequence[int]], Sequence[int]] = lambda batch: [x * 10 for x in batch],
    max_batch: int = 4,
    wait_s: float = 0.0,
    capacity: int = 16,
) -> Iterator[Rig]:
    gate, started, deaths, seen = threading.Event(), threading.Event(), [], Recorder()
    gate.set()

    def gated(batch: Sequence[int]) -> Sequence[int]:
        started.set()
        assert gate.wait(10)
        return run(batch)

    batcher: Batcher[int, int] = Batcher(
        gated, max_batch=max_batch, wait_s=wait_s, capacity=capacity, observer=seen, on_death=deaths.append
    )
    batcher.start()
    try:
        yield Rig(batcher, seen, gate, started, deaths)
    finally:
        gate.set()
        batcher.close(10)


def values(futures: Sequence[Future[Done[int]]]) -> list[int]:
    return [future.result(5).value for future in futures]


def test_results_come_back_in_order() -> None:
    with rig() as r:
        assert values(r.submit(1, 2, 3)) == [10, 20, 30]
        (done,) = (f.result() for f in r.submit(4))
        assert done.device_seconds >= 0 and done.queue_seconds >= 0


def test_waiting_and_the_devices_time_are_told_apart() -> None:
    with rig() as r:
        first = r.occupy()
        (second,) = r.submit(1)
        time.sleep(0.05)
        r.gate.set()
        assert first.result(5).device_seconds >= 0.05
        assert second.result(5).queue_seconds >= 0.05


def test_what_gathered_while_the_device_was_busy_goes_at_once_in_powers_of_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr("service.batcher.time", SimpleNamespace(monotonic=lambda: now))
    with rig(wait_s=60) as r:
        r.gate.clear()
        first = r.submit(0, 0, 0, 0)
        assert r.started.wait(5)
        rest = r.submit(*range(1, 12))
        now = 61.0
        r.gate.set()
        assert values([*first, *rest]) == [0, 0, 0, *(x * 10 for x in range(12))], "within seconds, and not in a minute"
        assert [size for size, _ in r.seen.batches] == [4, 4, 4, 2, 1]
        assert [reason for _, reason in r.seen.batches] == ["full", "full", "full", "waited", "waited"]


def test_the_wait_counts_from_the_first_arrival() -> None:
    with rig(wait_s=0.3, max_batch=8) as r:
        started = time.monotonic()
        futures = r.submit(1)
        for _ in range(2):
            time.sleep(0.12)
            futures += r.submit(2)
        wait_for(futures, 5)
        assert time.monotonic() - started > 0.29
        # Three are there; a power of two goes first, and the third has waited long enough as well.
        assert r.seen.batches[0] == (2, "waited")


def test_a_full_batch_does_not_wait() -> None:
    with rig(wait_s=5, max_batch=2) as r:
        started = time.monotonic()
        values(r.submit(1, 2))
        assert time.monotonic() - started < 1
        assert r.seen.batches == [(2, "full")]


def test_cancelled_and_expired_items_never_reach_the_device() -> None:
    ran: list[int] = []
    with rig(lambda batch: (ran.extend(batch), list(batch))[1]) as r:
        r.occupy()
        (gone,) = r.submit(1)
        (late,) = r.submit(2, deadline=time.monotonic() + 0.01)
        (kept,) = r.submit(3)
        gone.cancel()
        time.sleep(0.02)
        r.gate.set()
        assert kept.result(5).value == 3
        with pytest.raises(DeadlinePassed):
            late.result(5)
        with pytest.raises(CancelledError):
            gone.result(5)
        assert ran == [0, 3]
        assert sorted(r.seen.drops) == ["cancelled", "expired"]


def test_a_full_queue_takes_all_or_none_and_cancelled_items_make_room() -> None:
    with rig(capacity=3) as r:
        r.occupy()
        kept = r.submit(1, 2)
        with pytest.raises(QueueFull):
            r.submit(3, 4)
        assert r.batcher.waiting == 2
        kept[0].cancel()
        more = r.submit(3, 4)
        r.gate.set()
        assert values([kept[1], *more]) == [20, 30, 40]


def test_out_of_memory_halves_until_it_fits() -> None:
    def small(batch: Sequence[int]) -> Sequence[int]:
        if len(batch) > 2:
            raise MemoryError
        return batch

    with rig(small, max_batch=8) as r:
        r.occupy()
        futures = r.submit(*range(8))
        r.gate.set()
        assert values(futures) == list(range(8))
        assert r.seen.ooms == 3
        assert [size for size, reason in r.seen.batches if reason == "halved"] == [2, 2, 2, 2]


def test_nothing_of_a_pass_that_did_not_fit_is_alive_while_its_halves_run() -> None:
    class Activations: ...

    failed: list[weakref.ref[Activations]] = []

    def run(batch: Sequence[int]) -> Sequence[int]:
        assert not any(each() for each in failed)
        activations = Activations()
        failed.append(weakref.ref(activations))
        if len(batch) > 1:
            raise MemoryError
        return batch

    with rig(run) as bench:
        bench.occupy()
        futures = bench.submit(1, 2, 3, 4)
        bench.gate.set()
        assert [future.result(5).value for future in futures] == [1, 2, 3, 4]
    assert len(failed) > 4


def test_only_the_item_that_never_fits_fails() -> None:
    def choosy(batch: Sequence[int]) -> Sequence[int]:
        if 5 in batch:
            raise MemoryError
        return batch

    with rig(choosy, max_batch=8) as r:
        r.occupy()
        futures = r.submit(*range(8))
        r.gate.set()
        for i, future in enumerate(futures):
            if i == 5:
                with pytest.raises(MemoryError):
                    future.result(5)
            else:
                assert future.result(5).value == i
        assert r.batcher.alive


def test_an_exception_fails_its_batch_and_no_other() -> None:
    def touchy(batch: Sequence[int]) -> Sequence[int]:
        if 1 in batch:
            raise ValueError("bad")
        return batch

    with rig(touchy, max_batch=2) as r:
        r.occupy()
        bad, good = r.submit(1, 2), r.submit(3, 4)
        r.gate.set()
        for future in bad:
            with pytest.raises(ValueError, match="bad"):
                future.result(5)
        assert values(good) == [3, 4]


def test_a_wrong_number_of_results_is_an_error() -> None:
    with rig(lambda batch: []) as r:
        with pytest.raises(RuntimeError, match="0 results for a batch of 1"):
            values(r.submit(1))
        assert r.batcher.alive


@pytest.mark.parametrize("error", [DeviceLost("poisoned"), KeyboardInterrupt(), SystemExit(3)])
def test_when_the_device_is_lost_nobody_is_left_waiting(error: BaseException) -> None:
    def lost(batch: Sequence[int]) -> Sequence[int]:
        raise error

    with rig(lost) as r:
        first = r.occupy()
        waiting = r.submit(1, 2, 3)
        waiting[1].cancel()
        r.gate.set()
        for future in (first, waiting[0], waiting[2]):
            with pytest.raises(DeviceLost):
                future.result(5)
        assert r.deaths == [error]
        assert not r.batcher.alive
        with pytest.raises(DeviceLost):
            r.submit(4)


def test_an_observer_that_fails_ends_the_thread_and_leaves_nobody_waiting() -> None:
    with rig() as r:
        r.seen.batch = lambda size, reason, seconds: 1 / 0  # type: ignore[method-assign, assignment, return-value]
        with pytest.raises(DeviceLost):
            r.submit(1)[0].result(5)
        assert isinstance(r.deaths[0], ZeroDivisionError)


def test_a_failed_start_is_a_death() -> None:
    deaths: list[BaseException] = []

    def fail() -> None:
        raise OSError("no weights")

    batcher: Batcher[int, int] = Batcher(
        lambda batch: batch,
        max_batch=1,
        wait_s=0,
        capacity=1,
        observer=Recorder(),
        on_start=fail,
        on_death=deaths.append,
    )
    batcher.start()
    batcher.close(5)
    assert isinstance(deaths[0], OSError) and not batcher.alive


def test_closing_finishes_what_is_queued() -> None:
    with rig(wait_s=30) as r:
        futures = r.submit(1, 2)
        r.batcher.close(5)
        assert values(futures) == [10, 20]
        with pytest.raises(DeviceLost):
            r.submit(3)


def test_an_idle_thread_gives_signs_of_life() -> None:
    with rig() as r:
        time.sleep(1.2)
        assert r.batcher.silent_seconds < 1.1
        r.occupy()
        time.sleep(0.2)
        assert r.batcher.silent_seconds > 0.15
