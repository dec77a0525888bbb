import numpy as np
import pytest

from models.wrong_person import is_legible, wrong_person

T = 60.0


def between(people: str, same: float = 30.0, different: float = 85.0) -> list[list[float]]:
    return [
        [0.0 if i == j else same if a == b else different for j, b in enumerate(people)] for i, a in enumerate(people)
    ]


@pytest.mark.parametrize(
    ("people", "to_input", "restored", "expected"),
    [
        # the input can be read, and each reference matches it or not
        ("a", [40], 20, (False,)),
        ("b", [85], 20, (True,)),
        ("aa", [40, 45], 20, (False, False)),
        ("ab", [40, 85], 20, (False, True)),
        ("bb", [85, 85], 20, (True, True)),
        # a turned head alone does not condemn a reference that its fellows know
        ("aaa", [40, 45, 70], 20, (False, False, False)),
        ("aab", [40, 70, 85], 20, (False, False, True)),
        # two photographs of the same wrong person do not vouch for each other
        ("abb", [40, 85, 85], 20, (False, True, True)),
        # a matching reference proves that the input can be read, whatever the restoration looks like
        ("ab", [40, 85], 80, (False, True)),
        # the input says nothing: alone or in twos nobody knows, from three on the odd one out is known
        ("a", [80], 80, (None,)),
        ("ab", [80, 80], 80, (None, None)),
        ("aa", [80, 80], 80, (None, None)),
        ("aab", [80, 80, 80], 80, (None, None, True)),
        ("aaab", [80, 80, 80, 80], 80, (None, None, None, True)),
        ("abc", [80, 80, 80], 80, (None, None, None)),
        ("aabb", [80, 80, 80, 80], 80, (None, None, None, None)),
        ("", [], 20, ()),
    ],
)
def test_verdicts(people: str, to_input: list[float], restored: float, expected: tuple[bool | None, ...]) -> None:
    assert wrong_person(to_input, between(people), restored, T) == expected


def test_the_order_of_references_does_not_matter() -> None:
    people, to_input = "aabac", [40.0, 70.0, 85.0, 45.0, 88.0]
    verdicts = wrong_person(to_input, between(people), 20, T)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(5)
        shuffled = wrong_person([to_input[i] for i in order], between("".join(people[i] for i in order)), 20, T)
        assert shuffled == tuple(verdicts[i] for i in order)


def test_the_matching_angle_still_matches() -> None:
    """To the input, and between references: there the second is known by the first."""
    assert wrong_person([60, 70, 70], [[0, 60, 61], [60, 0, 61], [61, 61, 0]], 20, T) == (False, False, True)


def test_legible() -> None:
    assert is_legible([], 59, T) and is_legible([80, 60], 90, T)
    assert not is_legible([], 61, T) and not is_legible([61], 61, T)
