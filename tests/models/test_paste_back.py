import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.geometry import Matrix, transform_points, warp
from models.paste_back import FEATHER, PastedFace, back_to_size, paste_back, soft_mask


def pasted(crop: np.ndarray, matrix: Matrix) -> PastedFace:
    """A restored crop that has nothing to do with what was there."""
    return PastedFace(crop, matrix, before=CHEQUERED)


def unchanged(picture: np.ndarray, matrix: Matrix) -> PastedFace:
    crop = warp(picture, matrix, (512, 512))
    return PastedFace(crop, matrix, before=crop)


#: Nothing but fine detail, which no restored crop here keeps.
CHEQUERED = np.where((np.indices((512, 512)).sum(0) % 2)[:, :, None], np.uint8(20), np.uint8(230)).repeat(3, 2)


def placement(centre: tuple[float, float], side: float, degrees: float = 0.0) -> Matrix:
    """The matrix of a crop whose square of `side` picture pixels lies around `centre`, turned by `degrees`."""
    scale, angle = 512 / side, math.radians(degrees)
    linear = scale * np.array([(math.cos(angle), -math.sin(angle)), (math.sin(angle), math.cos(angle))])
    return np.column_stack([linear, np.array([255.5, 255.5]) - linear @ np.array(centre)])


def smooth_picture(height: int = 240, width: int = 320) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 23) + np.cos(y / 31), np.cos(x / 37 + y / 29), np.sin(y / 19)]
    return np.stack([127 + 50 * wave for wave in waves], 2).round().astype(np.uint8)


def crop_positions(matrix: Matrix, height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return transform_points(matrix, np.column_stack([x.ravel(), y.ravel()])).reshape(height, width, 2)


placements = st.builds(
    placement,
    st.tuples(st.floats(-40, 360), st.floats(-40, 280)),
    st.floats(6, 500),
    st.floats(-180, 180),
)


@settings(max_examples=60, deadline=None)
@given(placements)
def test_outside_the_crop_not_a_bit_changes(matrix: Matrix) -> None:
    picture = smooth_picture()
    result = paste_back(picture, [pasted(np.full((512, 512, 3), 255, np.uint8), matrix)])
    at = crop_positions(matrix, 240, 320)
    outside = ((at < -0.5) | (at > 511.5)).any(2)
    assert np.array_equal(result[outside], picture[outside])


@settings(max_examples=25, deadline=None)
@given(st.tuples(st.floats(-20, 340), st.floats(-20, 260)), st.floats(40, 900), st.floats(-180, 180))
def test_an_unchanged_crop_gives_the_picture_back(centre: tuple[float, float], side: float, degrees: float) -> None:
    picture = smooth_picture()
    matrix = placement(centre, side, degrees)
    result = paste_back(picture, [unchanged(picture, matrix)])
    assert np.abs(result.astype(int) - picture).max() <= 4


def test_inside_it_is_the_restored_face() -> None:
    matrix = placement((160, 120), 200)
    result = paste_back(smooth_picture(), [pasted(np.full((512, 512, 3), 9, np.uint8), matrix)])
    at = crop_positions(matrix, 240, 320)
    inside = ((at > FEATHER) & (at < 511 - FEATHER)).all(2)
    assert inside.sum() > 10_000
    assert (result[inside] == 9).all()


@pytest.mark.parametrize("degrees", [0, 17, 45])
def test_the_border_is_no_step(degrees: float) -> None:
    """White on black: between neighbours the brightness never jumps by more than the smoothstep's steepest slope."""
    picture = np.zeros((440, 440, 3), np.uint8)
    side = 300.0
    matrix = placement((220, 220), side, degrees)
    result = paste_back(picture, [pasted(np.full((512, 512, 3), 255, np.uint8), matrix)])[:, :, 0].astype(int)
    steepest = 1.5 * 255 / (FEATHER * side / 512)
    limit = steepest * (1 if degrees == 0 else math.sqrt(2)) + 1
    assert np.abs(np.diff(result, axis=0)).max() <= limit
    assert np.abs(np.diff(result, axis=1)).max() <= limit
    assert result.max() == 255 and result[0].max() == 0


def test_the_mask_fades_from_one_to_zero() -> None:
    profile = soft_mask(placement((255.5, 255.5), 512), (0, 255, 512, 256))[0]
    assert profile[256] == 1 and profile[0] < 0.001 and profile[511] < 0.001
    assert (np.diff(profile[:256]) >= 0).all() and np.abs(np.diff(profile)).max() < 1.6 / FEATHER
    assert np.abs(np.diff(profile, 2)).max() < 6.5 / FEATHER**2, "the slope does not jump either"


def test_a_face_at_the_edge_is_restored_up_to_the_edge() -> None:
    matrix = placement((0, 120), 200)  # its left half lies outside the picture
    result = paste_back(smooth_picture(), [pasted(np.full((512, 512, 3), 9, np.uint8), matrix)])
    assert (result[100:140, 0:40] == 9).all()


def test_a_crop_beside_the_picture_changes_nothing() -> None:
    picture = smooth_picture()
    face = pasted(np.zeros((512, 512, 3), np.uint8), placement((-500, -500), 100))
    assert np.array_equal(paste_back(picture, [face]), picture)
    assert np.array_equal(paste_back(picture, []), picture)


def test_the_given_picture_is_left_alone() -> None:
    picture = smooth_picture()
    before = picture.copy()
    paste_back(picture, [pasted(np.zeros((512, 512, 3), np.uint8), placement((160, 120), 200))])
    assert np.array_equal(picture, before)


def test_overlapping_faces_keep_their_centres_in_any_order() -> None:
    picture = np.full((240, 320, 3), 128, np.uint8)
    left = pasted(np.full((512, 512, 3), 250, np.uint8), placement((100, 120), 180))
    right = pasted(np.full((512, 512, 3), 10, np.uint8), placement((190, 120), 180, 20))
    one, other = paste_back(picture, [left, right]), paste_back(picture, [right, left])
    assert np.abs(one.astype(int) - other).max() <= 1
    assert one[130, 80].min() > 240 and one[130, 215].max() < 20
    assert np.abs(np.diff(one[:, :, 0].astype(int), axis=1)).max() < 20, "and there is no seam between them"


def test_faces_that_overlap_by_half_keep_their_own_centres() -> None:
    picture = np.full((240, 320, 3), 128, np.uint8)
    faces = [
        pasted(np.full((512, 512, 3), level, np.uint8), placement((x, 120), 180))
        for x, level in ((130, 250), (190, 10))
    ]
    result = paste_back(picture, faces)
    assert result[132, 130].min() > 250 - 40 and result[132, 190].max() < 10 + 40


def test_halves_that_round_up_do_not_leave_the_levels() -> None:
    white = pasted(np.full((512, 512, 3), 255, np.uint8), placement((60, 60), 120))
    result = paste_back(np.zeros((120, 120, 3), np.uint8), [white, white])
    assert (result[50:70, 50:70] == 255).all()


def test_unchanged_overlapping_faces_give_the_picture_back() -> None:
    picture = smooth_picture()
    matrices = [placement((100, 120), 180), placement((150, 110), 160, 30), placement((130, 140), 60)]
    faces = [unchanged(picture, matrix) for matrix in matrices]
    assert np.abs(paste_back(picture, faces).astype(int) - picture).max() <= 3


def test_only_the_region_costs_anything() -> None:
    """Told by the memory beside the copy, which no other program's work changes."""
    picture = np.zeros((2000, 3000, 3), np.uint8)
    face = pasted(np.full((512, 512, 3), 9, np.uint8), placement((1500, 1000), 400))
    tracemalloc.start()
    result = paste_back(picture, [face])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < picture.nbytes + 8_000_000
    assert result.any()


def rough_picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (600, 700, 3), dtype=np.uint8)


@pytest.mark.parametrize("side", [60, 200, 560])
def test_without_strength_the_picture_stays_what_it_is(side: float) -> None:
    picture, matrix = rough_picture(), placement((350, 300), side, 10)
    crop = warp(picture, matrix, (512, 512))
    result = paste_back(picture, [PastedFace(crop, matrix, crop, strength=0)])
    assert np.array_equal(result, picture)
    part = picture[:200, :300]
    assert np.array_equal(back_to_size(PastedFace(crop, matrix, crop, strength=0), part), part)


def test_half_the_strength_is_half_of_the_face_and_half_of_the_picture() -> None:
    picture, matrix = rough_picture(), placement((350, 300), 560)
    before = warp(picture, matrix, (512, 512))
    crop = np.rint(0.5 * before + 0.5 * 100).astype(np.uint8)
    result = paste_back(picture, [PastedFace(crop, matrix, before, strength=0.5)])
    middle = np.s_[250:350, 300:400]
    assert np.abs(result[middle].astype(float) - (0.5 * picture[middle] + 50)).mean() < 1


@pytest.mark.parametrize("side", [130, 260])
def test_a_small_face_keeps_its_fine_detail_on_the_way_there_and_back(side: float) -> None:
    x = np.mgrid[:600, :700][1]
    stripes = (127 + 60 * np.sin(2 * np.pi * x / 3))[:, :, None].repeat(3, 2).round().astype(np.uint8)
    matrix = placement((350.3, 300.6), side, 7)
    result = paste_back(stripes, [unchanged(stripes, matrix)])
    middle = np.s_[290:310, 340:360]
    assert result[middle].astype(float).std() > 0.7 * stripes[middle].std()


def test_what_is_finer_than_the_crop_stays_where_the_crop_kept_its_detail() -> None:
    picture, matrix = rough_picture(), placement((350, 300), 1024)
    faces = [unchanged(picture, matrix)]
    assert np.abs(paste_back(picture, faces).astype(int) - picture).max() <= 1
    assert np.abs(back_to_size(faces[0], picture).astype(int) - picture).max() <= 1


def test_what_is_finer_than_the_crop_goes_where_restoring_removed_grain() -> None:
    picture, matrix = rough_picture(), placement((350, 300), 1024)
    before = warp(picture, matrix, (512, 512))
    result = paste_back(picture, [PastedFace(np.full_like(before, 127), matrix, before)])
    assert np.abs(result[250:350, 300:400].astype(int) - 127).max() <= 2
