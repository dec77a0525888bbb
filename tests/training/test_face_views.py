import numpy as np
import pytest
from numpy.typing import NDArray

from models.geometry import ALIGNED_SIZE, FFHQ_512, enlargement, fit_similarity, five_points, transform_points
from tests.toy_faces import TEMPLATE
from training.face_views import MIRRORED, Jitter, mirror_landmarks, moved_landmarks, random_view, relight

STILL = Jitter(degrees=0, scale=0, shift=0, degraded=0)
SIZE = 192
LANDMARKS = (TEMPLATE * 0.6 + 10).astype(np.float32)
TO_FRAME = fit_similarity(five_points(LANDMARKS), transform_points(enlargement(SIZE / ALIGNED_SIZE), FFHQ_512))


def dotted(landmark: int) -> NDArray[np.uint8]:
    """A dark picture with a soft light dot on one landmark."""
    x, y = np.meshgrid(np.arange(340), np.arange(340))
    squared = (x - LANDMARKS[landmark, 0]) ** 2 + (y - LANDMARKS[landmark, 1]) ** 2
    return np.repeat((40 + 200 * np.exp(-squared / 50))[:, :, None], 3, axis=2).round().astype(np.uint8)


def find_dot(view: NDArray[np.uint8]) -> NDArray[np.float64]:
    light = view.astype(float).mean(2)
    weight = np.clip(light - (light.max() + np.median(light)) / 2, 0, None)
    y, x = np.indices(weight.shape)
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


@pytest.mark.parametrize("landmark", [8, 36, 45, 30, 54])
def test_landmarks_follow_the_view(landmark: int) -> None:
    jitter = Jitter(degrees=35, scale=0.3, shift=0.1, degraded=0)
    sides = set()
    for seed in range(10):
        view, matrix, mirrored = random_view(
            dotted(landmark), TO_FRAME, SIZE, jitter, np.random.default_rng((landmark, seed))
        )
        assert view.shape == (SIZE, SIZE, 3) and view.dtype == np.uint8
        points = moved_landmarks(LANDMARKS, matrix, mirrored)
        expected = points[MIRRORED[landmark] if mirrored else landmark]
        if (np.abs(expected - SIZE / 2) < SIZE / 2 - 12).all():  # else the dot is cut by the view's edge
            assert np.allclose(find_dot(view), expected, atol=0.35)
            sides.add(mirrored)
    assert sides == {True, False}


def test_a_mirrored_face_has_its_right_eye_on_the_left_again() -> None:
    picture = np.zeros((340, 340, 3), np.uint8)
    for seed in range(8):
        _, matrix, mirrored = random_view(picture, TO_FRAME, SIZE, STILL, np.random.default_rng(seed))
        points = moved_landmarks(LANDMARKS, matrix, mirrored)
        assert points[36:42, 0].mean() < SIZE / 2 < points[42:48, 0].mean()
        assert np.allclose(five_points(points) * 512 / SIZE, FFHQ_512, atol=12)


def test_mirroring_twice_is_nothing() -> None:
    assert np.array_equal(MIRRORED[MIRRORED], np.arange(68))
    assert [MIRRORED[i] for i in (0, 8, 17, 30, 36, 39, 48, 51, 60, 62)] == [16, 8, 26, 30, 45, 42, 54, 51, 64, 62]


def test_mirrored_landmarks_are_where_the_mirrored_picture_has_them() -> None:
    mirrored = mirror_landmarks(LANDMARKS, 340)
    assert mirrored.dtype == np.float32
    assert np.allclose(mirrored[45], find_dot(dotted(36)[:, ::-1]), atol=0.35)
    assert np.allclose(mirror_landmarks(mirrored, 340), LANDMARKS, atol=1e-4)


def test_a_still_view_is_the_aligned_frame() -> None:
    views = [random_view(dotted(0), TO_FRAME, SIZE, STILL, np.random.default_rng(seed)) for seed in range(8)]
    matrices = [matrix for _, matrix, mirrored in views if not mirrored]
    assert matrices and all(np.allclose(matrix, TO_FRAME) for matrix in matrices)


def test_a_seed_fixes_the_view_and_degrading_changes_it() -> None:
    clean, dirty = Jitter(5, 0.1, 0.1, 0.0), Jitter(5, 0.1, 0.1, 1.0)
    first, again, worse = (
        random_view(dotted(30), TO_FRAME, SIZE, jitter, np.random.default_rng(2))[0] for jitter in (clean, clean, dirty)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, worse)


def test_relighting_keeps_the_order_of_grey_levels() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    for seed in range(20):
        assert (np.diff(relight(ramp, np.random.default_rng(seed)).astype(int), axis=1) >= 0).all()
