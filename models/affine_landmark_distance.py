"""Affine landmark distance, A-LD (paper 3.4): the landmark error that no affine transform of the face explains away."""

import torch
from torch import Tensor

from models.errors import GeometryError

EYES: tuple[int, ...] = (*range(17, 27), *range(36, 48))
"""Eyebrows and eyes in the 68-point order, 22 points: what "ALD-e" is measured over."""

MOUTH: tuple[int, ...] = tuple(range(48, 60))
"""The outer lip in the 68-point order, 12 points: what "ALD-m" is measured over."""

# Below this ratio of the two spreads the points lie on a line. Of a true line in float32 pixels rounding leaves 1e-7.
COLLINEAR = 1e-6
# Below this ratio of spread to coordinates, what is left after centring is rounding.
COINCIDENT = 1e-8


class _Fit:
    """The weighted least-squares fit, all leading dimensions at once, in float64 and coordinates-first `[..., 2, N]`.

    Why this form: Eq. 15 inverts L'WL'^T, whose condition number is the square of the problem's and, with pixel
    coordinates beside a column of ones, is about 1e9 for a face at 512 px. Centring both sets (by the weighted mean)
    removes the ones and the translation exactly; dividing each by its size makes the arithmetic blind to units; and
    two Gram-Schmidt columns, the longer first and the second orthogonalised twice, are as stable as a Householder QR
    while they stay elementwise: no LAPACK loop over the batch, no device sync, a gradient that autograd writes, and
    results that do not depend on batch-mates.
    """

    def __init__(self, restored: Tensor, truth: Tensor, weights: Tensor | None) -> None:
        source, target = (points.to(torch.float64).transpose(-1, -2).contiguous() for points in (restored, truth))
        weight = torch.ones_like(source[..., 0, :]) if weights is None else weights.to(torch.float64)
        weight = weight.expand_as(source[..., 0, :])

        finite = source.isfinite().all(-2) & target.isfinite().all(-2) & weight.isfinite()
        self.finite = finite.all(-1)
        self.positive = (weight > 0).all(-1)
        # An invalid set is replaced, so that no NaN can travel back through the `where` that hides its distance.
        source, target = (torch.where(finite[..., None, :], points, 0.0) for points in (source, target))
        weight = torch.where(finite & (weight > 0), weight, 1.0)

        self._source_mean, self._target_mean = _mean(source, weight), _mean(target, weight)
        largest = source.detach().abs().amax((-1, -2))
        source, target = source - self._source_mean, target - self._target_mean
        spread = source.detach().abs().amax((-1, -2))
        # The distance does not depend on these sizes, so they are constants to autograd: the gradient is the same.
        self._source_size, self._target_size = _size(source), _size(target)
        root = weight.sqrt()[..., None, :]
        x, y = (source / self._source_size * root).unbind(-2)
        self._target = target / self._target_size * root

        self._swapped = (_dot(y, y) > _dot(x, x))[..., None]
        first, second = torch.where(self._swapped, y, x), torch.where(self._swapped, x, y)
        self._r11, length = _length(first)
        self._q1 = first / self._r11
        self._r12 = _dot(self._q1, second)[..., None]
        second = second - self._r12 * self._q1
        correction = _dot(self._q1, second)[..., None]
        self._r12 = self._r12 + correction
        self._r22, height = _length(second - correction * self._q1)
        self._q2 = (second - correction * self._q1) / self._r22
        self.spread_out = (spread > COINCIDENT * largest) & (height > COLLINEAR * length)[..., 0]

        self._c1 = _dot(self._q1[..., None, :], self._target)[..., None]
        self._rest = self._target - self._c1 * self._q1[..., None, :]
        self._c2 = _dot(self._q2[..., None, :], self._rest)[..., None]

    def distance(self) -> Tensor:
        residual = self._rest - self._c2 * self._q2[..., None, :]
        return (residual * self._target_size).square().flatten(-2).sum(-1)

    def matrix(self) -> Tensor:
        second = self._c2[..., 0] / self._r22
        first = (self._c1[..., 0] - self._r12 * second) / self._r11
        x, y = torch.where(self._swapped, second, first), torch.where(self._swapped, first, second)
        linear = torch.stack([x, y], -1) * (self._target_size / self._source_size)
        translation = self._target_mean - linear @ self._source_mean
        return torch.cat([linear, translation], -1)


def _mean(points: Tensor, weight: Tensor) -> Tensor:
    weight = weight[..., None, :]
    return (points * weight).sum(-1, keepdim=True) / weight.sum(-1, keepdim=True)


def _size(centred: Tensor) -> Tensor:
    size = centred.detach().abs().amax((-1, -2), keepdim=True)
    return torch.where(size > 0, size, 1.0)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1)


def _length(vector: Tensor) -> tuple[Tensor, Tensor]:
    """A divisor that is never zero and has a gradient, and the true length beside it (`[..., 1]`)."""
    square = _dot(vector, vector)[..., None]
    return torch.where(square > 0, square, 1.0).sqrt(), square.detach().sqrt()


def _fit(restored: Tensor, truth: Tensor, weights: Tensor | None, check: bool) -> _Fit:
    if restored.shape != truth.shape or restored.ndim < 2 or restored.shape[-1] != 2:
        raise GeometryError(
            f"landmark sets must both be [..., N, 2], got {tuple(restored.shape)} and {tuple(truth.shape)}"
        )
    if restored.shape[-2] < 3:
        raise GeometryError(f"an affine fit needs at least 3 landmarks, got {restored.shape[-2]}")
    if weights is not None and weights.shape not in (restored.shape[:-1], restored.shape[-2:-1]):
        raise GeometryError(f"weights must be [..., N] like the landmarks, got {tuple(weights.shape)}")
    fit = _Fit(restored, truth, weights)
    if check:
        if not fit.finite.all():
            raise GeometryError("landmarks and weights must be finite")
        if not fit.positive.all():
            raise GeometryError("landmark weights must be positive")
        if not fit.spread_out.all():
            raise GeometryError("the landmarks to fit from lie on a line or in one point")
    return fit


def fit_affine(restored: Tensor, truth: Tensor, weights: Tensor | None = None) -> Tensor:
    """The affine `[..., 2, 3]` that best maps landmarks `restored` onto `truth`, both `[..., N, 2]` (Eq. 15); float64.

    `weights` are `[N]` or `[..., N]`, positive, one if absent. Raises `GeometryError` for fewer than three,
    collinear or non-finite landmarks, weights that are not positive, and shapes that do not match.
    """
    return _fit(restored, truth, weights, check=True).matrix()


def affine_landmark_distance(
    restored: Tensor, truth: Tensor, weights: Tensor | None = None, *, check: bool = True
) -> Tensor:
    """A-LD `[...]` from landmarks `restored` to `truth`, both `[..., N, 2]` in pixels (Eq. 14); float64.

    The weighted sum over the landmarks of squared pixels that remain after the best affine of `restored`: with unit
    weights at 512 px the scale of the paper's tables [the paper states neither; its figures fit this reading].
    Raises `GeometryError` as `fit_affine` does. With `check=False` nothing is read back from the device and a set that
    would be an error is infinitely far, never NaN and without a gradient; wrong shapes are errors still.
    """
    fit = _fit(restored, truth, weights, check)
    distance = fit.distance()
    if check:
        return distance
    valid = fit.finite & fit.positive & fit.spread_out & distance.detach().isfinite()
    return torch.where(valid, distance, torch.inf)
