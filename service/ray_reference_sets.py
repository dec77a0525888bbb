"""Reference sets for many replicas: one deployment keeps them, and every replica copies of those that it used. They
travel between these processes pickled, as prepared references; the files uploaded for them do not."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, TypeVar

from models.references import Reference
from service.lru import LruStore
from service.metrics import Metrics
from service.problems import NOT_READY, Problem
from service.ray_cluster import keep_to_loopback
from service.reference_sets import ReferenceSet, ReferenceStore, check_name, not_found, owner_of, too_large
from service.settings import Settings

T = TypeVar("T")
Key = tuple[str, str]


class SharedReferenceSets:
    """The deployment: the sets of every caller by (caller, name), bounded and forgotten as in a single process."""

    def __init__(self, settings: Settings) -> None:
        keep_to_loopback()
        self._sets: LruStore[Key, ReferenceSet] = LruStore(
            settings.reference_sets_bytes,
            settings.reference_set_ttl_s,
            lambda entry: entry.bytes,
            owner_of=owner_of,
        )

    async def put(self, key: Key, entry: ReferenceSet) -> bool:
        """Stores a set; False if there is no room for it."""
        return self._sets.put(key, entry)

    async def get(self, key: Key, known: float | None) -> ReferenceSet | Literal["known"] | None:
        """The set, or "known" if it is the one that the asker has, by when it was created; its time starts anew."""
        entry = self._sets.get(key)
        return "known" if entry is not None and entry.created == known else entry

    async def remove(self, key: Key) -> bool:
        """Forgets a set; False if there is none."""
        return self._sets.remove(key)


class SharedReferenceStore(ReferenceStore):
    """A replica's store: its own cache by content, and the shared sets; `shared` is the deployment's handle."""

    def __init__(self, settings: Settings, metrics: Metrics, shared: Any) -> None:
        super().__init__(settings, metrics)
        self._shared = shared

    async def put(self, owner: str, name: str, references: Sequence[Reference]) -> ReferenceSet:
        key, entry = (owner, check_name(name)), ReferenceSet(tuple(references))
        if not await _asked(self._shared.put.remote, key, entry):
            raise too_large()
        self._sets.put(key, entry)
        return entry

    async def get(self, owner: str, name: str) -> ReferenceSet:
        key = (owner, check_name(name))
        mine = self._sets.get(key)
        newest = await _asked(self._shared.get.remote, key, mine.created if mine else None)
        if newest is None:
            self._sets.remove(key)
            raise not_found(name)
        if newest == "known" and mine is not None:
            return mine
        assert isinstance(newest, ReferenceSet)
        self._sets.put(key, newest)
        return newest

    async def remove(self, owner: str, name: str) -> None:
        key = (owner, check_name(name))
        self._sets.remove(key)
        if not await _asked(self._shared.remove.remote, key):
            raise not_found(name)


async def _asked(call: Callable[..., Awaitable[T]], *arguments: object) -> T:
    """The deployment's answer.

    Raises:
        Problem: its process has died; Ray starts another one, which has no sets yet.
    """
    from ray.exceptions import RayError

    try:
        return await call(*arguments)
    except RayError as error:
        raise Problem(NOT_READY, "the reference sets are being started again", retry_after=5) from error
