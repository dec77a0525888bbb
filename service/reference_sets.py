"""Analysed references in memory: by content for every request, and by name for albums. Nothing is written to disk."""

import hashlib
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from models.references import Reference
from service.lru import LruStore
from service.metrics import Metrics
from service.options import SET_ID
from service.problems import INVALID_REQUEST, REFERENCE_SET_NOT_FOUND, TOO_LARGE, Problem
from service.settings import Settings


@dataclass(frozen=True)
class ReferenceSet:
    """References uploaded once under a name."""

    references: tuple[Reference, ...]
    created: float = field(default_factory=time.time)

    @property
    def bytes(self) -> int:
        """Memory that its references take; one that it holds several times is in memory once."""
        return sum(map(reference_bytes, set(self.references)))


def reference_bytes(reference: Reference) -> int:
    """Memory that a reference takes."""
    return sum(
        part.element_size() * part.nelement() for part in (reference.image, reference.landmarks, reference.identity)
    )


def owner_of(key: tuple[str, str]) -> str:
    """Whose entry it is that a store has under a key."""
    return key[0]


class ReferenceStore:
    """Of each caller the cache of references by the hash of their file, and the reference sets: how fast an answer is
    tells nobody what others have sent, and nobody's many references push out another one's few.

    The sets are awaited: a service of many replicas keeps them elsewhere (service.ray_reference_sets).
    """

    def __init__(self, settings: Settings, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._cache: LruStore[tuple[str, str], Reference] = LruStore(
            settings.cache_bytes, settings.cache_ttl_s, reference_bytes, clock, owner_of
        )
        self._sets: LruStore[tuple[str, str], ReferenceSet] = LruStore(
            settings.reference_sets_bytes,
            settings.reference_set_ttl_s,
            lambda entry: entry.bytes,
            clock,
            owner_of,
        )
        metrics.cache_bytes.set_function(lambda: self._cache.bytes)
        metrics.reference_sets.set_function(lambda: len(self._sets))
        metrics.reference_sets_bytes.set_function(lambda: self._sets.bytes)

    async def analysed(
        self, data: bytes, analyse: Callable[[bytes], Awaitable[Reference]], owner: str = ""
    ) -> Reference:
        """The reference that a caller's file holds, from the cache or freshly analysed."""
        key = (owner, hashlib.sha256(data).hexdigest())
        reference = self._cache.get(key)
        self._metrics.cache_lookups.labels("miss" if reference is None else "hit").inc()
        if reference is None:
            reference = await analyse(data)
            self._cache.put(key, reference)
        return reference

    async def put(self, owner: str, name: str, references: Sequence[Reference]) -> ReferenceSet:
        """Stores a set under a caller's name for it, in the place of an older one."""
        entry = ReferenceSet(tuple(references))
        if not self._sets.put((owner, check_name(name)), entry):
            raise too_large()
        return entry

    async def get(self, owner: str, name: str) -> ReferenceSet:
        """A caller's set; its time to live starts anew."""
        entry = self._sets.get((owner, check_name(name)))
        if entry is None:
            raise not_found(name)
        return entry

    async def remove(self, owner: str, name: str) -> None:
        """Forgets a caller's set."""
        if not self._sets.remove((owner, check_name(name))):
            raise not_found(name)


def check_name(name: str) -> str:
    """A set's name, if it may be one."""
    if not re.fullmatch(SET_ID, name):
        letters = "1 to 64 letters, digits, dots, dashes or underscores"
        raise Problem(INVALID_REQUEST, f"a reference set's id has {letters}, and is neither '.' nor '..'")
    return name


def not_found(name: str) -> Problem:
    """What to raise when a caller has no set of this name."""
    return Problem(REFERENCE_SET_NOT_FOUND, f"no reference set '{name}': upload it with PUT")


def too_large() -> Problem:
    """What to raise for a set that finds no room."""
    return Problem(
        TOO_LARGE, "the references are larger than all reference sets may be together, or than other callers leave room"
    )
