"""Toy faces and toy face tools: a grey disc with a red and a green eye and a blue mouth, found by colour.

The person is the tint of the skin. So every stage of a restoration can be tested without trained networks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from models.face_analyzer import Detection, FaceAnalyzer, Landmarks
from models.geometry import FFHQ_512, Matrix, fit_similarity, invert_affine, transform_points
from models.references import References

ANNA, BEN, CARL = (180, 150, 150), (150, 150, 180), (150, 180, 150)
BACKGROUND = 90


def template_landmarks() -> NDArray[np.float64]:
    """68 points whose eye centres, nose tip and mouth corners are those of the FFHQ-512 template."""
    left, right, nose, corner_left, corner_right = FFHQ_512
    ring = np.array([(-25, 0), (-10, -9), (10, -9), (25, 0), (10, 9), (-10, 9)])
    jaw = [(256 - 150 * np.cos(t), 260 + 190 * np.sin(t)) for t in np.linspace(0, np.pi, 17)]
    brows = [(x, 205 - 8 * (i % 5 in (1, 2, 3))) for i, x in enumerate([*range(160, 225, 13), *range(290, 355, 13)])]
    bridge = [(256, 250), (256, 270), (256, 292), nose]
    nostrils = [(256 + 10 * i, 330 - abs(i)) for i in range(-2, 3)]
    inset = np.array((9.0, 0.0))
    lips = np.linspace(corner_left, corner_right, 7)
    lower = lips[::-1][1:-1] + np.array((0, 22))
    upper = lips - np.array([(0, d) for d in (0, 10, 14, 11, 14, 10, 0)])
    inner = [*np.linspace(corner_left + inset, corner_right - inset, 5), *(lips[[4, 3, 2]] + inset[::-1])]
    return np.array([*jaw, *brows, *bridge, *nostrils, *(ring + left), *(ring + right), *upper, *lower, *inner])


TEMPLATE = template_landmarks()
_MARKS = np.array([FFHQ_512[0], FFHQ_512[1], FFHQ_512[3:].mean(0)])


def draw_face(picture: NDArray[np.uint8], matrix: Matrix, skin: tuple[int, int, int]) -> None:
    """Draws a face; `matrix` maps the picture's pixels to the FFHQ-512 frame."""
    around = transform_points(invert_affine(matrix), [(60, 85), (452, 85), (60, 475), (452, 475)])
    (left, top), (right, bottom) = np.clip(around.min(0), 0, None).astype(int), around.max(0).astype(int) + 1
    part = picture[top:bottom, left:right]
    x, y = np.meshgrid(np.arange(left, left + part.shape[1]), np.arange(top, top + part.shape[0]))
    at = transform_points(matrix, np.column_stack([x.ravel(), y.ravel()])).reshape(*x.shape, 2)
    canvas = part.astype(np.float64)

    def disc(centre: Sequence[float], radius: float, colour: tuple[int, int, int]) -> None:
        distance = np.hypot(at[:, :, 0] - centre[0], at[:, :, 1] - centre[1])
        opacity = np.clip((radius - distance) / 6 + 0.5, 0, 1)[:, :, None]
        canvas[:] = canvas * (1 - opacity) + np.array(colour) * opacity

    disc((256, 280), 190, skin)
    for centre, colour in zip(_MARKS, ((230, 20, 20), (20, 230, 20), (20, 20, 230)), strict=True):
        disc(centre, 28, colour)
    part[:] = canvas.round().astype(np.uint8)


def placement(centre: tuple[float, float], side: float, degrees: float = 0.0) -> Matrix:
    """The matrix of a crop whose square of `side` picture pixels lies around `centre`, turned by `degrees`."""
    angle = np.radians(degrees)
    axis = side / 2 * np.array([np.cos(angle), np.sin(angle)])
    return fit_similarity([centre - axis, centre + axis], [(0, 255.5), (511, 255.5)])


def photo(
    *faces: tuple[tuple[float, float], float, tuple[int, int, int]],
    size: tuple[int, int] = (480, 360),
    degrees: float = 0,
) -> NDArray[np.uint8]:
    """A picture of `size` (width, height) with faces (centre, side of the FFHQ crop, skin)."""
    return _photo(faces, size, degrees).copy()


@lru_cache(maxsize=32)
def _photo(
    faces: tuple[tuple[tuple[float, float], float, tuple[int, int, int]], ...], size: tuple[int, int], degrees: float
) -> NDArray[np.uint8]:
    picture = np.full((size[1], size[0], 3), BACKGROUND, np.uint8)
    for centre, side, skin in faces:
        draw_face(picture, placement(centre, side, degrees), skin)
    return picture


def _amount(picture: NDArray[np.float32], channel: int) -> NDArray[np.float32]:
    """How red (green, blue) each pixel is, in grey levels over the strongest tint of a skin."""
    others = np.maximum(picture[:, :, channel - 1], picture[:, :, channel - 2])
    return np.clip(picture[:, :, channel] - others - 45, 0, None)


def _middle(amount: NDArray[np.float32]) -> NDArray[np.float64]:
    columns, rows = amount.sum(0, dtype=np.float64), amount.sum(1, dtype=np.float64)
    return np.array([columns @ np.arange(len(columns)), rows @ np.arange(len(rows))]) / max(columns.sum(), 1e-9)


class ToyDetector:
    def detect(self, picture: NDArray[np.uint8]) -> list[Detection]:
        marks = []
        for channel in range(3):
            amount = _amount(picture.astype(np.float32), channel)
            labels, count = ndimage.label(amount > 0)
            marks.append([_middle(amount * (labels == i + 1)) for i in range(count)])
        found = []
        for red in marks[0]:
            if marks[1] and marks[2]:
                green = min(marks[1], key=lambda mark: float(np.linalg.norm(mark - red)))
                blue = min(marks[2], key=lambda mark: float(np.linalg.norm(mark - red)))
                to_picture = invert_affine(fit_similarity([red, green, blue], _MARKS))
                corners = transform_points(to_picture, [(118, 186), (396, 186), (118, 464), (396, 464)])
                (x0, y0), (x1, y1) = corners.min(0), corners.max(0)
                found.append(Detection((float(x0), float(y0), float(x1), float(y1)), 0.9))
        return found


class ToyLandmarks:
    name = "toy landmarks"

    def landmarks(self, crops: Tensor) -> Landmarks:
        points = []
        for crop in crops:
            levels = ((crop.permute(1, 2, 0).float() + 1) * 127.5).numpy()
            marks = np.array([_middle(_amount(levels, channel)) for channel in range(3)])
            affine = np.linalg.solve(np.column_stack([_MARKS, np.ones(3)]), marks).T  # through three points: exact
            points.append(transform_points(affine, TEMPLATE))
        found = torch.from_numpy(np.stack(points)).float()
        grid = (torch.arange(64) + 0.5) * crops.shape[-1] / 64 - 0.5
        near = [(-((found[..., i, None] - grid) ** 2) / 200).exp() for i in range(2)]
        return Landmarks(found, near[1][..., :, None] * near[0][..., None, :])


class ToyIdentity:
    """The tint of the forehead."""

    name = "toy identity"
    width = 3

    def embed(self, faces: Tensor) -> Tensor:
        tint = faces[:, :, 150:190, 230:280].mean((2, 3))
        return torch.nn.functional.normalize(tint, dim=1)


def analyzer() -> FaceAnalyzer:
    return FaceAnalyzer(ToyDetector(), ToyLandmarks(), ToyIdentity(), matching_angle=25.0)


@dataclass(frozen=True)
class ToyGenerated:
    restored: Tensor


@dataclass
class ToyGenerator:
    """Brightens by `strength` x `gain`, and by 0.04 more for each reference; keeps a list of the batch sizes."""

    gain: float = 0.2
    batches: list[int] = field(default_factory=list)
    takes_references: bool = True

    def __call__(
        self,
        lq: Tensor,
        references: References | None = None,
        landmarks: Tensor | None = None,
        identity: Tensor | None = None,
        strength: float | Tensor = 1.0,
        seeds: Sequence[int | None] | None = None,
    ) -> ToyGenerated:
        self.batches.append(len(lq))
        assert landmarks is not None and landmarks.shape == (len(lq), 68, 2)
        assert identity is not None and identity.shape == (len(lq), 3)
        assert seeds is not None and len(seeds) == len(lq)
        counts = torch.zeros(len(lq)) if references is None else references.owner.bincount(minlength=len(lq)).float()
        change = self.gain + 0.04 * counts
        return ToyGenerated(lq + (torch.as_tensor(strength) * change)[:, None, None, None])
