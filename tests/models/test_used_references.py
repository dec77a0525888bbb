"""Which references a face is restored with, and what the report says of it."""

import pytest

from models.face_restorer import FaceRestorer, Options
from models.picture import Picture
from models.wrong_person import used_references
from tests.models.test_wrong_person import T, between
from tests.toy_faces import ANNA, BEN, ToyGenerator, analyzer, photo


@pytest.mark.parametrize(
    ("people", "to_input", "expected"),
    [
        ("ab", [40, 85], (True, False)),
        ("aab", [40, 70, 85], (True, True, False)),  # the second is known by the first
        ("bb", [85, 85], (True, True)),  # it may be the input that cannot be read
        ("", [], ()),
    ],
)
def test_strangers_are_left_out_beside_a_match(people: str, to_input: list[float], expected: tuple[bool, ...]) -> None:
    assert used_references(to_input, between(people), T) == expected


def portrait(skin: tuple[int, int, int]) -> Picture:
    return Picture(photo(((120.0, 120.0), 200.0, skin), size=(240, 240)))


@pytest.mark.parametrize(
    ("given", "used", "chosen"),
    [((BEN, ANNA), (False, True), 1), ((ANNA, BEN, ANNA), (True, False, True), 0), ((BEN,), (True,), 0)],
)
def test_the_generator_sees_the_used_ones_and_the_report_tells(
    given: tuple[tuple[int, int, int], ...], used: tuple[bool, ...], chosen: int
) -> None:
    restorer = FaceRestorer(ToyGenerator(), analyzer())
    references = restorer.prepare_references([portrait(skin) for skin in given])
    result = restorer.restore(portrait(ANNA), references, Options(color_fix="none"))
    (report,) = result.reports
    assert tuple(one.used for one in report.references) == used
    assert report.chosen_reference == chosen
    assert [one["used"] for one in report.summary()["references"]] == list(used)  # type: ignore[attr-defined]
    brighter = result.picture.pixels[120, 120].astype(float) - portrait(ANNA).pixels[120, 120]
    assert brighter.mean() == pytest.approx((0.2 + 0.04 * sum(used)) * 127.5, abs=1)
