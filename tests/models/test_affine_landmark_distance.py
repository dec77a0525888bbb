import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares
from torch import Tensor

from models.affine_landmark_distance import EYES, MOUTH, affine_landmark_distance, fit_affine
from models.errors import GeometryError


def pair(seed: int = 0, *shape: int, points: int = 22) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    restored = 150 + 200 * torch.rand(*shape, points, 2, generator=generator, dtype=torch.float64)
    return restored, restored + 3 * torch.randn(restored.shape, generator=generator, dtype=torch.float64)


def weights_of(*shape: int) -> Tensor:
    return 0.2 + 3 * torch.rand(*shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def test_index_sets_are_those_of_the_paper() -> None:
    assert (len(EYES), len(MOUTH)) == (22, 12)
    assert set(EYES) == {*range(17, 27), *range(36, 48)}
    assert set(MOUTH) == set(range(48, 60))


def test_hand_value() -> None:
    # An affine can follow the corners of a square but for one pattern, +-+-; a corner moved by 4 holds 1 of it each.
    square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    moved = square.clone()
    moved[2] += torch.tensor([4.0, 0.0])
    assert affine_landmark_distance(square, moved).item() == pytest.approx(4.0, abs=1e-12)
    assert affine_landmark_distance(square, moved, torch.full((4,), 2.5)).item() == pytest.approx(10.0, abs=1e-12)


def test_weights_count_a_landmark_that_often() -> None:
    restored, truth = pair(points=6)
    weights = torch.tensor([1.0, 2.0, 1.0, 3.0, 1.0, 1.0])
    repeated = restored.repeat_interleave(weights.long(), 0), truth.repeat_interleave(weights.long(), 0)
    torch.testing.assert_close(affine_landmark_distance(restored, truth, weights), affine_landmark_distance(*repeated))


@given(
    angle=st.floats(0, 2 * math.pi),
    other=st.floats(0, 2 * math.pi),
    scales=st.tuples(st.floats(0.05, 20), st.floats(0.05, 20)),
    mirrored=st.booleans(),
    shift=st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)),
    seed=st.integers(0, 1000),
)
@settings(max_examples=200, deadline=None)
def test_any_invertible_affine_of_the_restored_set_changes_nothing(
    angle: float, other: float, scales: tuple[float, float], mirrored: bool, shift: tuple[float, float], seed: int
) -> None:
    def rotation(by: float) -> Tensor:
        return torch.tensor([[math.cos(by), -math.sin(by)], [math.sin(by), math.cos(by)]], dtype=torch.float64)

    stretch = torch.diag(torch.tensor([scales[0] * (-1 if mirrored else 1), scales[1]], dtype=torch.float64))
    linear = rotation(angle) @ stretch @ rotation(other)
    restored, truth = pair(seed)
    moved = restored @ linear.T + torch.tensor(shift, dtype=torch.float64)
    weights = weights_of(22)
    torch.testing.assert_close(
        affine_landmark_distance(moved, truth, weights),
        affine_landmark_distance(restored, truth, weights),
        rtol=1e-8,
        atol=1e-8,
    )
    assert affine_landmark_distance(moved, restored).item() < 1e-12 * restored.square().sum().item()


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_an_iterative_solver(seed: int) -> None:
    restored, truth = pair(seed)
    weights = weights_of(22)
    points, goal, root = restored.numpy(), truth.numpy(), weights.sqrt().numpy()[:, None]

    def residual(parameters: np.ndarray) -> np.ndarray:
        matrix = parameters.reshape(2, 3)
        # Pixels over 100, so that the solver's steps are of one size.
        error = root * (points / 100 @ matrix[:, :2].T + matrix[:, 2] - goal / 100)
        return np.asarray(error.ravel())

    solution = least_squares(residual, np.zeros(6), xtol=1e-15, ftol=1e-15, gtol=1e-15)
    matrix = solution.x.reshape(2, 3) * [1, 1, 100]
    np.testing.assert_allclose(fit_affine(restored, truth, weights).numpy(), matrix, rtol=1e-5, atol=1e-6)
    assert affine_landmark_distance(restored, truth, weights).item() == pytest.approx(2e4 * solution.cost, rel=1e-8)


def test_fit_is_equation_15_and_its_residual_is_the_distance() -> None:
    restored, truth = pair()
    weights = weights_of(22)
    homogeneous = torch.cat([restored, torch.ones(22, 1, dtype=torch.float64)], 1).T
    weighted = homogeneous @ torch.diag(weights)
    literal = (truth.T @ weighted.T) @ torch.linalg.inv(weighted @ homogeneous.T)
    matrix = fit_affine(restored, truth, weights)
    torch.testing.assert_close(matrix, literal, rtol=1e-7, atol=1e-7)
    residual = (matrix @ homogeneous - truth.T).square().sum(0) @ weights
    torch.testing.assert_close(affine_landmark_distance(restored, truth, weights), residual)


def test_sound_far_from_the_origin_and_nearly_collinear() -> None:
    restored, truth = pair()
    restored[:, 1] = restored[:, 1] * 1e-3 + 7e5
    expected = affine_landmark_distance(restored - restored.mean(0), truth)
    torch.testing.assert_close(affine_landmark_distance(restored, truth), expected, rtol=1e-6, atol=0)


def test_three_landmarks_leave_nothing() -> None:
    assert affine_landmark_distance(*pair(points=3)).item() == pytest.approx(0, abs=1e-18 * 512**2)


def test_truth_in_one_point_is_no_error() -> None:
    restored, truth = pair()
    assert affine_landmark_distance(restored, torch.full_like(truth, 3.0)).item() == 0


def test_batch_equals_loop_to_the_bit() -> None:
    restored, truth = pair(3, 5, 4)
    weights = weights_of(5, 4, 22)
    together = affine_landmark_distance(restored, truth, weights)
    assert together.shape == (5, 4)
    for i in range(5):
        for j in range(4):
            assert torch.equal(together[i, j], affine_landmark_distance(restored[i, j], truth[i, j], weights[i, j]))
    torch.testing.assert_close(
        fit_affine(restored, truth, weights)[2, 1], fit_affine(restored[2, 1], truth[2, 1], weights[2, 1])
    )


def test_gradients() -> None:
    restored, truth = (points.requires_grad_() for points in pair(1, 2, points=5))
    weights = weights_of(2, 5).requires_grad_()
    assert torch.autograd.gradcheck(affine_landmark_distance, (restored, truth, weights))
    assert torch.autograd.gradcheck(fit_affine, (restored, truth, weights))


def test_float32_pixels_are_solved_in_float64() -> None:
    restored, truth = pair()
    distance = affine_landmark_distance(restored.float(), truth.float())
    assert distance.dtype == torch.float64
    assert distance.item() == pytest.approx(affine_landmark_distance(restored, truth).item(), rel=1e-5)


LINE = torch.linspace(100, 300, 12)[:, None] * torch.tensor([[0.7, 1.3]]) + torch.tensor([[31.0, -4.0]])


@pytest.mark.parametrize("points", [LINE, LINE * torch.tensor([[0.0, 1.0]]) + 5.1, torch.full((12, 2), 0.1)])
def test_collinear_landmarks_are_an_error(points: Tensor) -> None:
    truth = pair(points=12)[1]
    with pytest.raises(GeometryError, match="line or in one point"):
        affine_landmark_distance(points, truth)
    with pytest.raises(GeometryError, match="line or in one point"):
        fit_affine(points, truth)
    assert affine_landmark_distance(points, truth, check=False).item() == math.inf


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", range(3))
def test_what_is_not_finite_is_an_error(value: float, where: int) -> None:
    arguments = [*pair(), weights_of(22)]
    arguments[where].view(-1)[5] = value
    with pytest.raises(GeometryError, match="finite"):
        affine_landmark_distance(*arguments)
    assert affine_landmark_distance(*arguments, check=False).item() == math.inf


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_weights_must_be_positive(value: float) -> None:
    weights = weights_of(22)
    weights[3] = value
    with pytest.raises(GeometryError, match="positive"):
        affine_landmark_distance(*pair(), weights)
    assert affine_landmark_distance(*pair(), weights, check=False).item() == math.inf


@pytest.mark.parametrize("check", [True, False])
def test_shapes(check: bool) -> None:
    restored, truth = pair()
    with pytest.raises(GeometryError, match=r"\[\.\.\., N, 2\]"):
        affine_landmark_distance(restored[:5], truth, check=check)
    with pytest.raises(GeometryError, match=r"\[\.\.\., N, 2\]"):
        affine_landmark_distance(restored[:, :1], truth[:, :1], check=check)
    with pytest.raises(GeometryError, match="at least 3"):
        affine_landmark_distance(restored[:2], truth[:2], check=check)
    with pytest.raises(GeometryError, match="weights"):
        affine_landmark_distance(restored, truth, torch.ones(21), check=check)


def test_unchecked_a_bad_set_harms_no_other_and_has_no_gradient() -> None:
    restored, truth = pair(2, 4)
    restored[1] = math.nan
    restored[2] = 7.0
    restored[3, :, 1] = restored[3, :, 0]
    restored.requires_grad_()
    distances = affine_landmark_distance(restored, truth, check=False)
    assert torch.equal(distances[0], affine_landmark_distance(restored[0], truth[0]))
    assert distances[1:].tolist() == [math.inf] * 3
    (gradient,) = torch.autograd.grad(distances[0], restored)
    assert gradient[0].abs().sum() > 0
    assert not gradient[1:].any()
