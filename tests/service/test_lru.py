import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from service.lru import LruStore


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """The store is used from an event loop only."""

    @functools.wraps(test)
    def run(*arguments: object, **named: object) -> None:
        asyncio.run(test(*arguments, **named))

    return run


@in_a_loop
async def test_least_recently_used_goes_first() -> None:
    store: LruStore[str, bytes] = LruStore(10, 60, len)
    for name in "abc":
        store.put(name, b"123")
    assert store.get("a") == b"123"
    store.put("d", b"123")
    assert [store.get(name) is not None for name in "abcd"] == [True, False, True, True]
    assert store.bytes == 9


@in_a_loop
async def test_too_large_alone_is_not_kept_and_costs_nobody_a_place() -> None:
    store: LruStore[str, bytes] = LruStore(10, 60, len)
    store.put("a", b"123")
    assert not store.put("b", b"x" * 11)
    assert store.get("a") and store.get("b") is None


@in_a_loop
async def test_replacing_and_removing() -> None:
    store: LruStore[str, bytes] = LruStore(10, 60, len)
    store.put("a", b"12345")
    store.put("a", b"12")
    assert (store.bytes, len(store)) == (2, 1)
    assert store.remove("a") and not store.remove("a")
    assert (store.bytes, len(store)) == (0, 0)


@in_a_loop
async def test_an_entry_expires_after_its_last_use() -> None:
    clock = Clock()
    store: LruStore[str, bytes] = LruStore(100, 10, len, clock)
    store.put("used", b"1")
    store.put("left", b"1")
    clock.now = 6
    store.get("used")
    clock.now = 11
    assert store.get("left") is None and store.get("used") == b"1"
    assert store.bytes == 1
    clock.now = 30
    assert not store.remove("used")
    assert (store.bytes, len(store)) == (0, 0)


@given(st.lists(st.tuples(st.sampled_from("pgrt"), st.integers(0, 5), st.integers(0, 12))))
@in_a_loop
async def test_the_bound_and_the_sum_always_hold(steps: list[tuple[str, int, int]]) -> None:
    clock = Clock()
    store: LruStore[int, bytes] = LruStore(20, 10, len, clock)
    for action, key, size in steps:
        if action == "p":
            assert store.put(key, b"x" * size)
            assert store.get(key) == b"x" * size
        elif action == "g":
            store.get(key)
        elif action == "r":
            store.remove(key)
            assert store.get(key) is None
        else:
            clock.now += size
        assert 0 <= store.bytes <= 20
        assert store.bytes == sum(len(store.get(each) or b"") for each in range(6))


@in_a_loop
async def test_what_does_not_fit_leaves_the_old_value() -> None:
    store: LruStore[str, bytes] = LruStore(10, 60, len)
    store.put("a", b"123")
    assert not store.put("a", b"x" * 11)
    assert store.get("a") == b"123" and store.bytes == 3


@in_a_loop
async def test_what_expires_is_forgotten_although_nobody_asks() -> None:
    gone = []

    class Picture(bytes):
        def __del__(self) -> None:
            gone.append(len(self))

    store: LruStore[str, Picture] = LruStore(100, 0.05, len)
    store.put("a", Picture(b"1"))
    await asyncio.sleep(0.03)
    store.put("b", Picture(b"12"))
    assert gone == []
    await asyncio.sleep(0.1)
    assert gone == [1, 2]


def pairs(max_bytes: int) -> LruStore[tuple[str, str], bytes]:
    return LruStore(max_bytes, 60, len, owner_of=lambda key: key[0])


@in_a_loop
async def test_who_holds_the_most_gives_way() -> None:
    store = pairs(10)
    store.put(("a", "1"), b"123")
    for name in "123456":
        assert store.put(("b", name), b"123")
    assert [key for key in (("a", "1"), *(("b", name) for name in "123456")) if store.get(key)] == [
        ("a", "1"),
        ("b", "5"),
        ("b", "6"),
    ]


@in_a_loop
async def test_a_newcomer_gets_an_equal_share() -> None:
    store = pairs(12)
    for name in "1234":
        store.put(("a", name), b"123")
    for name in "123":
        assert store.put(("b", name), b"123")
    kept = [(owner, name) for owner in "ab" for name in "1234" if store.get((owner, name))]
    assert kept == [("a", "3"), ("a", "4"), ("b", "2"), ("b", "3")]


@in_a_loop
async def test_what_finds_no_room_beside_equal_shares_costs_nobody_anything() -> None:
    store = pairs(12)
    store.put(("a", "1"), b"1234")
    store.put(("b", "1"), b"1234")
    store.put(("c", "1"), b"1")
    assert not store.put(("c", "2"), b"12345") and not store.put(("c", "1"), b"12345")
    assert store.bytes == 9 and store.get(("c", "1")) == b"1"
    store.put(("b", "1"), b"12345")
    assert store.put(("c", "1"), b"12345"), "b holds more than a third"
    assert store.get(("a", "1")) and store.get(("b", "1")) is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("1234"), st.integers(0, 20))))
@in_a_loop
async def test_nobody_is_pushed_below_an_equal_share(steps: list[tuple[str, str, int]]) -> None:
    store, keys = pairs(20), [(owner, name) for owner in "abc" for name in "1234"]

    def held() -> dict[tuple[str, str], bytes]:
        return {key: value for key in keys if (value := store.get(key)) is not None}

    for owner, name, size in steps:
        before = held()
        owners = {each for each, _ in before} | {owner}
        stored = store.put((owner, name), b"x" * size)
        after = held()
        assert stored or after == before
        assert stored or size > 20 / len(owners), "an equal share is to be had at any time"
        for each in owners - {owner}:
            mine = {key: value for key, value in before.items() if key[0] == each}
            if sum(map(len, mine.values())) <= 20 / len(owners):
                assert mine.items() <= after.items()
