from hypothesis import given
from hypothesis import strategies as st

from service.lru import LruStore


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_least_recently_used_goes_first() -> None:
    store: LruStore[str, bytes] = LruStore(10, 60, len)
    for name in "abc":
        store.put(name, b"123")
    assert store.get("a") == b"123"
    store.put("d", b"123")
    assert [store.get(name) is not None for name in "abcd"] == [True, False, True, True]
    assert store.bytes == 9


def test_too_large_alone_is_not_kept_and_costs_nobody_a_place() -> None:
    store: LruStore[str, bytes] = LruStore(10, 60, len)
    store.put("a", b"123")
    assert not store.put("b", b"x" * 11)
    assert store.get("a") and store.get("b") is None


def test_replacing_and_removing() -> None:
    store: LruStore[str, bytes] = LruStore(10, 60, len)
    store.put("a", b"12345")
    store.put("a", b"12")
    assert (store.bytes, len(store)) == (2, 1)
    assert store.remove("a") and not store.remove("a")
    assert (store.bytes, len(store)) == (0, 0)


def test_an_entry_expires_after_its_last_use() -> None:
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
def test_the_bound_and_the_sum_always_hold(steps: list[tuple[str, int, int]]) -> None:
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


def test_what_does_not_fit_leaves_the_old_value() -> None:
    store: LruStore[str, bytes] = LruStore(10, 60, len)
    store.put("a", b"123")
    assert not store.put("a", b"x" * 11)
    assert store.get("a") == b"123" and store.bytes == 3
