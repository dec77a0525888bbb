"""A least-recently-used store bounded in bytes whose entries also expire; used from the event loop only."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class LruStore(Generic[Key, Value]):
    """Keeps values up to `max_bytes` together; one that has not been used for `ttl_s` seconds is gone, and its memory
    with it, although nobody asks."""

    def __init__(
        self,
        max_bytes: int,
        ttl_s: float,
        size_of: Callable[[Value], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_bytes, self._ttl_s, self._size_of, self._clock = max_bytes, ttl_s, size_of, clock
        self._entries: OrderedDict[Key, tuple[Value, int, float]] = OrderedDict()
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def bytes(self) -> int:
        """Size of all entries together."""
        self._expire()
        return self._bytes

    def __len__(self) -> int:
        self._expire()
        return len(self._entries)

    def get(self, key: Key) -> Value | None:
        """The value, which becomes the most recently used one, or None."""
        self._expire()
        if key not in self._entries:
            return None
        value, size, _ = self._entries[key]
        self._entries[key] = (value, size, self._clock() + self._ttl_s)
        self._entries.move_to_end(key)
        return value

    def put(self, key: Key, value: Value) -> bool:
        """Stores a value, at the cost of the least recently used ones.

        If it alone is over the bound, False, and what was stored before stays.
        """
        size = self._size_of(value)
        if size > self._max_bytes:
            return False
        self.remove(key)
        self._entries[key] = (value, size, self._clock() + self._ttl_s)
        self._bytes += size
        self._expire()
        while self._bytes > self._max_bytes:
            self.remove(next(iter(self._entries)))
        self._wait_for_the_oldest()
        return True

    def remove(self, key: Key) -> bool:
        """Forgets a value; False if there is none."""
        self._expire()
        return self._forget(key)

    def _wait_for_the_oldest(self) -> None:
        if self._timer is None and self._entries:
            _, _, end = next(iter(self._entries.values()))
            self._timer = asyncio.get_running_loop().call_later(max(0.0, end - self._clock()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._expire()
        self._wait_for_the_oldest()

    def _forget(self, key: Key) -> bool:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry[1]
        return entry is not None

    def _expire(self) -> None:
        # Every use moves an entry to the end with a new time, so the entries lie in the order of their expiry.
        now = self._clock()
        while self._entries and self._entries[key := next(iter(self._entries))][2] <= now:
            self._forget(key)
