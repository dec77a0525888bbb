import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.geometry import Matrix, transform_points, warp
from models.paste_back import FEATHER, PastedFace, paste_back, soft_mask


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
    result = paste_back(picture, [PastedFace(np.full((512, 512, 3), 255, np.uint8), matrix)])
    at = crop_positions(matrix, 240, 320)
    outside = ((at < -0.5) | (at > 511.5)).any(2)
    assert np.array_equal(result[outside], picture[outside])


@settings(max_examples=25, deadline=None)
@given(st.tuples(st.floats(-20, 340), st.floats(-20, 260)), st.floats(40, 900), st.floats(-180, 180))
def test_an_unchanged_crop_gives_the_picture_back(centre: tuple[float, float], side: float, degrees: float) -> None:
    picture = smooth_picture()
    matrix = placement(centre, side, degrees)
    result = paste_back(picture, [PastedFace(warp(picture, matrix, (512, 512)), matrix)])
    assert np.abs(result.astype(int) - picture).max() <= 4


def test_inside_it_is_the_restored_face() -> None:
    matrix = placement((160, 120), 200)
    result = paste_back(smooth_picture(), [PastedFace(np.full((512, 512, 3), 9, np.uint8), matrix)])
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
    result = paste_back(picture, [PastedFace(np.full((512, 512, 3), 255, np.uint8), matrix)])[:, :, 0].astype(int)
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
    result = paste_back(smooth_picture(), [PastedFace(np.full((512, 512, 3), 9, np.uint8), matrix)])
    assert (result[100:140, 0:40] == 9).all()


def test_a_crop_beside_the_picture_changes_nothing() -> None:
    picture = smooth_picture()
    face = PastedFace(np.zeros((512, 512, 3), np.uint8), placement((-500, -500), 100))
    assert np.array_equal(paste_back(picture, [face]), picture)
    assert np.array_equal(paste_back(picture, []), picture)


def test_the_given_picture_is_left_alone() -> None:
    picture = smooth_picture()
    before = picture.copy()
    paste_back(picture, [PastedFace(np.zeros((512, 512, 3), np.uint8), placement((160, 120), 200))])
    assert np.array_equal(picture, before)


def test_overlapping_faces_keep_their_centres_in_any_order() -> None:
    picture = np.full((240, 320, 3), 128, np.uint8)
    left = PastedFace(np.full((512, 512, 3), 250, np.uint8), placement((100, 120), 180))
    right = PastedFace(np.full((512, 512, 3), 10, np.uint8), placement((190, 120), 180, 20))
    one, other = paste_back(picture, [left, right]), paste_back(picture, [right, left])
    assert np.abs(one.astype(int) - other).max() <= 1
    assert one[130, 80].min() > 240 and one[130, 215].max() < 20
    assert np.abs(np.diff(one[:, :, 0].astype(int), axis=1)).max() < 20, "and there is no seam between them"


def test_faces_that_overlap_by_half_keep_their_own_centres() -> None:
    picture = np.full((240, 320, 3), 128, np.uint8)
    faces = [
        PastedFace(np.full((512, 512, 3), level, np.uint8), placement((x, 120), 180))
        for x, level in ((130, 250), (190, 10))
    ]
    result = paste_back(picture, faces)
    assert result[132, 130].min() > 250 - 40 and result[132, 190].max() < 10 + 40


def test_halves_that_round_up_do_not_leave_the_levels() -> None:
    white = PastedFace(np.full((512, 512, 3), 255, np.uint8), placement((60, 60), 120))
    result = paste_back(np.zeros((120, 120, 3), np.uint8), [white, white])
    assert (result[50:70, 50:70] == 255).all()


def test_unchanged_overlapping_faces_give_the_picture_back() -> None:
    picture = smooth_picture()
    matrices = [placement((100, 120), 180), placement((150, 110), 160, 30), placement((130, 140), 60)]
    faces = [PastedFace(warp(picture, matrix, (512, 512)), matrix) for matrix in matrices]
    assert np.abs(paste_back(picture, faces).astype(int) - picture).max() <= 3


def test_only_the_region_costs_anything() -> None:
    """Told by the memory beside the copy, which no other program's work changes."""
    picture = np.zeros((2000, 3000, 3), np.uint8)
    face = PastedFace(np.full((512, 512, 3), 9, np.uint8), placement((1500, 1000), 400))
    tracemalloc.start()
    result = paste_back(picture, [face])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < picture.nbytes + 4_000_000
    assert result.any()
