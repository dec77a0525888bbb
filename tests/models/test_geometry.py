import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from models.errors import GeometryError
from models.geometry import (
    ARCFACE_112,
    ARCFACE_FROM_FFHQ,
    FFHQ_512,
    Matrix,
    arcface_crop,
    bands,
    compose,
    fit_similarity,
    five_points,
    invert_affine,
    scale_of,
    shrink,
    transform_points,
    warp,
)
from tests.toy_faces import ANNA, TEMPLATE, photo

POINTS = np.array([(10.0, 20.0), (200.0, 30.0), (90.0, 150.0), (40.0, 260.0), (180.0, 240.0)])


def similarity(degrees: float, scale: float, shift: tuple[float, float] = (0, 0)) -> Matrix:
    angle = np.radians(degrees)
    linear = scale * np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    return np.column_stack([linear, shift])


def blob(centre: tuple[float, float], size: tuple[int, int], sigma: float = 4.0) -> NDArray[np.uint8]:
    """A soft white dot on black, its centre in pixel coordinates; size is width, height."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    value = 255 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * sigma**2))
    return np.repeat(value[:, :, None], 3, axis=2).round().astype(np.uint8)


def middle(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    weight = picture[:, :, 0].astype(float)
    y, x = np.indices(weight.shape)
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


@settings(deadline=None, max_examples=50)
@given(
    st.floats(-180, 180), st.floats(0.05, 20), st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), st.integers(2, 5)
)
def test_a_similarity_is_recovered(degrees: float, scale: float, shift: tuple[float, float], count: int) -> None:
    matrix = similarity(degrees, scale, shift)
    found = fit_similarity(POINTS[:count], transform_points(matrix, POINTS[:count]))
    assert np.allclose(found, matrix, atol=1e-6)
    assert scale_of(found) == pytest.approx(scale)


def test_a_similarity_never_mirrors() -> None:
    mirrored = POINTS * (-1, 1)
    assert np.linalg.det(fit_similarity(POINTS, mirrored)[:, :2]) > 0


def test_a_similarity_is_the_nearest_one() -> None:
    target = transform_points(similarity(20, 0.7, (3, 4)), POINTS) + np.random.default_rng(0).normal(0, 5, POINTS.shape)
    found = fit_similarity(POINTS, target)

    def error(matrix: Matrix) -> float:
        return float(((transform_points(matrix, POINTS) - target) ** 2).sum())

    for change in (similarity(0.1, 1), similarity(0, 1.001), similarity(0, 1, (0.1, 0)), similarity(0, 1, (0, -0.1))):
        assert error(found) < error(compose(change, found))


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        (POINTS, POINTS[:4], "equal lists"),
        (POINTS[:, 0], POINTS[:, 0], "equal lists"),
        (POINTS[:1], POINTS[:1], "at least"),
        (np.where(POINTS == 90, np.nan, POINTS), POINTS, "finite"),
        (POINTS, np.where(POINTS == 90, np.inf, POINTS), "finite"),
        (np.ones((5, 2)), POINTS, "coincide"),
    ],
)
def test_points_that_define_nothing(source: Matrix, target: Matrix, said: str) -> None:
    with pytest.raises(GeometryError, match=said):
        fit_similarity(source, target)


def test_there_and_back() -> None:
    matrix = np.array([(0.8, -0.3, 12.0), (0.1, 1.7, -5.0)])
    assert np.allclose(transform_points(invert_affine(matrix), transform_points(matrix, POINTS)), POINTS)
    assert np.allclose(compose(invert_affine(matrix), matrix), [(1, 0, 0), (0, 1, 0)])


def test_composing_applies_the_first_first() -> None:
    first, second = similarity(30, 2, (5, 1)), np.array([(1.0, 0.5, 3.0), (0.0, 2.0, 0.0)])
    expected = transform_points(second, transform_points(first, POINTS))
    assert np.allclose(transform_points(compose(second, first), POINTS), expected)


@pytest.mark.parametrize("matrix", [np.zeros((2, 3)), [(1, 1, 0), (1, 1, 0)], [(1, 0, np.nan), (0, 1, 0)]])
def test_what_flattens_the_picture_has_no_inverse(matrix: Matrix) -> None:
    with pytest.raises(GeometryError, match="no inverse"):
        invert_affine(matrix)


def test_five_points_of_68() -> None:
    assert np.allclose(five_points(TEMPLATE), FFHQ_512, atol=1e-9)
    with pytest.raises(GeometryError, match="68 landmarks"):
        five_points(TEMPLATE[:67])


def test_warping_by_nothing_changes_nothing() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (31, 47, 3), dtype=np.uint8)
    assert np.array_equal(warp(picture, similarity(0, 1), (47, 31)), picture)


def test_bands_of_a_warp_meet_without_a_seam() -> None:
    """Rows 128 and 256 begin a new band; between pixels, where rounding could tell them apart."""
    assert [*bands(3, 300)] == [(3, 131), (131, 259), (259, 300)]
    rows = np.arange(300, dtype=np.float64)[:, None].repeat(40, 1)
    ramp = np.rint(rows * 0.8).astype(np.uint8)
    moved = warp(ramp, np.array([(1, 0, 0), (0, 1, 0.5)]), (40, 300)).astype(int)
    # bicubic at half a pixel, by hand
    padded = np.pad(ramp.astype(np.float64), ((2, 2), (0, 0)), mode="edge")
    weights = (-0.09375, 0.59375, 0.59375, -0.09375)
    expected = np.rint(sum(w * padded[k : k + 300] for k, w in enumerate(weights)))
    assert np.abs(moved - expected).max() <= 1 and (np.abs(moved - expected) > 0).mean() < 0.2


def test_warping_by_whole_pixels_copies_and_repeats_the_edge() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (31, 47, 3), dtype=np.uint8)
    moved = warp(picture, similarity(0, 1, (5, -3)), (47, 31))
    assert np.array_equal(moved[:28, 5:], picture[3:, :42])
    assert np.array_equal(moved[:28, :5], np.repeat(picture[3:, :1], 5, axis=1))
    assert (warp(picture, similarity(0, 1, (5, -3)), (47, 31), fill=9)[:, :3] == 9).all()


def test_integer_coordinates_are_pixel_centres() -> None:
    ramp = np.repeat(np.arange(0, 200, 10, dtype=np.uint8)[None], 20, axis=0)
    twice = warp(ramp, similarity(0, 2), (40, 40))
    assert np.array_equal(twice[20, 10:30], np.arange(50, 150, 5))


@pytest.mark.parametrize(
    "matrix",
    [
        similarity(0, 1, (0.4, 0.7)),
        similarity(33, 1.3, (40, -20)),
        similarity(-20, 0.5, (10, 30)),
        similarity(75, 0.23, (60, 5)),
        np.array([(-0.9, 0.2, 140.0), (0.1, 1.1, 0.0)]),
    ],
)
def test_a_dot_lands_where_its_transform_says(matrix: Matrix) -> None:
    centre = (71.3, 64.8)
    found = middle(warp(blob(centre, (150, 130), sigma=6), matrix, (160, 160)))
    # torch's cubic (a = -0.75) is not exact on a ramp: it moves what lies between pixels by up to 0.045
    assert np.allclose(found, transform_points(matrix, [centre])[0], atol=0.07)


@pytest.mark.parametrize("scale", [0.6, 0.5, 0.31, 0.1])
def test_shrinking_a_chequerboard_gives_grey(scale: float) -> None:
    board = (np.indices((200, 200)).sum(0) % 2 * 255).astype(np.uint8)
    side = round(180 * scale)
    inner = warp(board, similarity(10, scale, (40 * scale, 0)), (side, side))[4:-4, 4:-4].astype(float)
    assert inner.mean() == pytest.approx(127.5, abs=2)
    assert inner.std() < (40 if scale > 0.5 else 12)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_shrinking_is_pillows_bilinear_also_of_a_part_that_cannot_be_written(channels: tuple[int, ...]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (97, 130, *channels), np.uint8)
    picture.flags.writeable = False
    part = picture[3:, 5:121]
    by_pillow = np.asarray(Image.fromarray(part).resize((40, 33), Image.Resampling.BILINEAR))
    assert np.abs(shrink(part, (40, 33)).astype(int) - by_pillow).max() <= 1


def test_a_target_far_outside_shows_the_edge_or_the_fill() -> None:
    picture = np.full((20, 30, 3), 77, np.uint8)
    away = similarity(0, 1, (500, 500))
    assert (warp(picture, away, (16, 16)) == 77).all()
    assert (warp(picture, away, (16, 16), fill=0) == 0).all()


def test_a_single_pixel_can_be_warped() -> None:
    assert (warp(np.full((1, 1, 3), 5, np.uint8), similarity(30, 64), (8, 8)) == 5).all()


def test_a_grey_picture_stays_grey() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    assert warp(picture, similarity(5, 1), (12, 10)).shape == (10, 12)


def test_the_arcface_frame_in_figures() -> None:
    assert scale_of(ARCFACE_FROM_FFHQ) == pytest.approx(0.29209, abs=5e-6)
    assert ARCFACE_FROM_FFHQ[:, 2] == pytest.approx((-18.930, -17.860), abs=5e-4)
    assert np.allclose(transform_points(ARCFACE_FROM_FFHQ, FFHQ_512), ARCFACE_112, atol=2.2)


def network_image(picture: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


def test_the_arcface_crop_is_the_warp_by_that_similarity() -> None:
    picture = photo(((255.5, 255.5), 512, ANNA), size=(512, 512))
    crop = (arcface_crop(network_image(picture))[0].permute(1, 2, 0).numpy() + 1) * 127.5
    difference = np.abs(crop - warp(picture, ARCFACE_FROM_FFHQ, (112, 112)))
    assert difference.mean() < 1 and difference.max() < 40


def test_an_arcface_crop_has_the_dot_at_the_place() -> None:
    crop = arcface_crop(network_image(blob((318.9, 240.2), (512, 512), sigma=9)))[0].permute(1, 2, 0).numpy()
    pixels = ((crop + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    assert np.allclose(middle(pixels), transform_points(ARCFACE_FROM_FFHQ, [(318.9, 240.2)])[0], atol=0.03)


def test_the_arcface_crop_is_differentiable() -> None:
    images = torch.zeros(2, 3, 512, 512, requires_grad=True)
    arcface_crop(images)[1].sum().backward()
    assert images.grad is not None
    assert not images.grad[0].any() and images.grad[1, :, 240, 190:320].all()
