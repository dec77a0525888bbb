"""Micro-batches of faces from many requests on one device: one thread owns the device and nothing else touches it."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

Payload = TypeVar("Payload")
Result = TypeVar("Result")


class DeviceLost(Exception):
    """The device cannot be used any more by this process, such as a poisoned CUDA context."""


class QueueFull(Exception):
    """As many items wait as may wait."""


class DeadlinePassed(Exception):
    """The item's deadline passed before the device took it."""


@dataclass(frozen=True)
class Done(Generic[Result]):
    """An item's result, and the seconds that it waited and was on the device."""

    value: Result
    queue_seconds: float
    device_seconds: float


class Observer(Protocol):
    """What a batcher reports as it happens, on the device thread."""

    def batch(self, size: int, reason: str, seconds: float) -> None: ...

    def waited(self, seconds: float) -> None: ...

    def dropped(self, reason: str) -> None: ...

    def out_of_memory(self) -> None: ...


@dataclass
class _Item(Generic[Payload, Result]):
    payload: Payload
    deadline: float
    arrived: float
    future: "Future[Done[Result]]" = field(default_factory=Future)


class Batcher(Generic[Payload, Result]):
    """Runs `run` on batches of submitted items, on a thread of its own.

    A batch is released when it is full, when its first item has waited `wait_s`, or at once when that time passed while
    the device was busy. Sizes are powers of two up to `max_batch`, so that a compiled model meets few shapes.
    `run` raises MemoryError when the device has too little memory: the batch is halved and tried again, and a single
    item that still does not fit fails alone. Any other exception fails its batch. DeviceLost, or an error outside
    `run`, ends the thread: everything waiting fails with DeviceLost and `on_death` is called.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Payload]], Sequence[Result]],
        *,
        max_batch: int,
        wait_s: float,
        capacity: int,
        observer: Observer,
        on_start: Callable[[], None] = lambda: None,
        on_death: Callable[[BaseException], None] = lambda error: None,
    ) -> None:
        self._run, self._observer, self._on_start, self._on_death = run, observer, on_start, on_death
        self._max_batch, self._wait_s, self._capacity = max_batch, wait_s, capacity
        self._waiting: deque[_Item[Payload, Result]] = deque()
        self._running: list[_Item[Payload, Result]] = []
        self._changed = threading.Condition()
        self._closing = False
        self._death: BaseException | None = None
        self._beat = time.monotonic()
        self._thread = threading.Thread(target=self._live, name="device", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._death is None and self._thread.is_alive()

    @property
    def silent_seconds(self) -> float:
        """Seconds since the device thread last gave a sign of life; it gives one at least every second when idle."""
        return time.monotonic() - self._beat

    @property
    def waiting(self) -> int:
        """Items that wait for the device, without cancelled ones."""
        with self._changed:
            return self._count()

    def _count(self) -> int:
        return sum(not item.future.cancelled() for item in self._waiting)

    def submit(self, payloads: Sequence[Payload], deadline: float) -> "list[Future[Done[Result]]]":
        """Queues items, all or none; `deadline` by time.monotonic(). Cancelling a future drops its item.

        Raises:
            QueueFull: they do not fit in the queue.
            DeviceLost: the device thread has ended.
        """
        with self._changed:
            if self._death is not None or self._closing:
                raise DeviceLost("the device thread has ended")
            if self._count() + len(payloads) > self._capacity:
                raise QueueFull
            now = time.monotonic()
            items = [_Item[Payload, Result](payload, deadline, now) for payload in payloads]
            self._waiting.extend(items)
            self._changed.notify_all()
        return [item.future for item in items]

    def close(self, timeout: float | None = None) -> None:
        """Finishes what is queued, then ends the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)

    def _live(self) -> None:
        try:
            self._on_start()
            while batch := self._next_batch():
                self._process(*batch)
        except BaseException as error:
            self._die(error)

    def _die(self, error: BaseException) -> None:
        with self._changed:
            self._death = error
            left = [*self._running, *self._waiting]
            self._waiting.clear()
            self._running = []
        for item in left:
            _fail(item.future, DeviceLost("the device has failed"))
        self._on_death(error)

    def _next_batch(self) -> tuple[list[_Item[Payload, Result]], str] | None:
        """Waits for the next batch and why it is released; None when closed and empty."""
        with self._changed:
            while True:
                self._beat = now = time.monotonic()
                self._drop_dead_items(now)
                if not self._waiting and self._closing:
                    return None
                if len(self._waiting) >= self._max_batch:
                    return self._take(), "full"
                if self._waiting and self._closing:
                    return self._take(), "closing"
                left = self._waiting[0].arrived + self._wait_s - now if self._waiting else 1.0
                if left <= 0:
                    return self._take(), "waited"
                self._changed.wait(left)

    def _drop_dead_items(self, now: float) -> None:
        kept = []
        for item in self._waiting:
            if item.future.cancelled():
                self._observer.dropped("cancelled")
            elif item.deadline <= now:
                self._observer.dropped("expired")
                _fail(item.future, DeadlinePassed())
            else:
                kept.append(item)
        self._waiting = deque(kept)

    def _take(self) -> list[_Item[Payload, Result]]:
        size = 1 << (min(len(self._waiting), self._max_batch).bit_length() - 1)
        self._running = [self._waiting.popleft() for _ in range(size)]
        return self._running

    def _process(self, items: list[_Item[Payload, Result]], reason: str) -> None:
        # Between the queue and the device an item may have been cancelled: from here on it no longer can be.
        items = [item for item in items if item.future.set_running_or_notify_cancel()]
        started = time.monotonic()
        for item in items:
            self._observer.waited(started - item.arrived)
        if items:
            self._generate(items, started, reason)
        with self._changed:
            self._running = []

    def _generate(self, items: list[_Item[Payload, Result]], taken: float, reason: str) -> None:
        self._beat = started = time.monotonic()
        too_large: str | None = None
        try:
            results = self._run([item.payload for item in items])
            if len(results) != len(items):
                raise RuntimeError(f"{len(results)} results for a batch of {len(items)}")
        except MemoryError as error:
            # Only its words: while the error lives, so does all that the failed pass has allocated.
            too_large = str(error)
        except DeviceLost:
            raise
        except Exception as error:
            for item in items:
                _fail(item.future, error)
            return
        if too_large is not None:
            self._observer.out_of_memory()
            if len(items) == 1:
                _fail(items[0].future, MemoryError(too_large))
            else:
                middle = len(items) // 2
                self._generate(items[:middle], taken, "halved")
                self._generate(items[middle:], taken, "halved")
            return
        seconds = time.monotonic() - started
        self._observer.batch(len(items), reason, seconds)
        for item, result in zip(items, results, strict=True):
            item.future.set_result(Done(result, started - item.arrived, seconds))


def _fail(future: "Future[Done[Result]]", error: BaseException) -> None:
    # A cancelled future has told its waiter already.
    if not future.done() and (future.running() or future.set_running_or_notify_cancel()):
        future.set_exception(error)
