"""A least-recently-used store bounded in bytes whose entries also expire; used from the event loop only."""

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class LruStore(Generic[Key, Value]):
    """Keeps values up to `max_bytes` together; one that has not been used for `ttl_s` seconds is gone, and its memory
    with it, although nobody asks. An owner of keys who holds no more than an equal share of the bytes loses nothing to
    another one."""

    def __init__(
        self,
        max_bytes: int,
        ttl_s: float,
        size_of: Callable[[Value], int],
        clock: Callable[[], float] = time.monotonic,
        owner_of: Callable[[Key], str] = lambda key: "",
    ) -> None:
        self._max_bytes, self._ttl_s, self._size_of, self._clock = max_bytes, ttl_s, size_of, clock
        self._owner_of = owner_of
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
        """Stores a value, at the cost of the least recently used ones of the owner who holds the most.

        If it is over the bound, alone or beside the equal shares of others, False, and what was stored before stays.
        """
        size = self._size_of(value)
        self._expire()
        leaving = self._leaving(key, size)
        if leaving is None:
            return False
        for each in (key, *leaving):
            self._forget(each)
        self._entries[key] = (value, size, self._clock() + self._ttl_s)
        self._bytes += size
        self._wait_for_the_oldest()
        return True

    def remove(self, key: Key) -> bool:
        """Forgets a value; False if there is none."""
        self._expire()
        return self._forget(key)

    def _leaving(self, key: Key, size: int) -> list[Key] | None:
        """What gives way to a value: each time the least recently used one of the owner who then holds the most, but
        of none who holds no more than an equal share; None where that does not make enough room."""
        held = Counter({self._owner_of(key): size})
        entries: dict[str, deque[tuple[Key, int]]] = {}
        for other, (_, other_size, _) in self._entries.items():
            if other != key:
                owner = self._owner_of(other)
                held[owner] += other_size
                entries.setdefault(owner, deque()).append((other, other_size))
        share, over = self._max_bytes / len(held), held.total() - self._max_bytes
        leaving = []
        while over > 0:
            most = max((owner for owner in entries if entries[owner]), key=held.__getitem__, default=None)
            if most is None or held[most] <= share:
                return None
            other, other_size = entries[most].popleft()
            leaving.append(other)
            held[most] -= other_size
            over -= other_size
        return leaving

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
