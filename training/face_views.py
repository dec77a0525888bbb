"""Random views of labelled faces: moved, turned, scaled, mirrored, relit and degraded; for the face tools' training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from models.geometry import ALIGNED_SIZE, Matrix, Pixels, compose, transform_points, warp
from training.degradation import PRESETS, degrade

Points = TypeVar("Points", NDArray[np.float32], NDArray[np.float64])

#: Which of the 68 landmarks takes each one's place in a mirrored picture.
MIRRORED = np.array(
    [
        *(*range(16, -1, -1), *range(26, 16, -1)),  # jaw, brows
        *(27, 28, 29, 30, 35, 34, 33, 32, 31),  # nose
        *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),  # eyes
        *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65),  # lips
    ]
)


def mirror_landmarks(points: Points, width: int) -> Points:
    """Landmarks `[68, 2]` of a picture of `width` px in the mirrored picture."""
    mirrored: Points = points[MIRRORED]
    mirrored[:, 0] = width - 1 - mirrored[:, 0]
    return mirrored


@dataclass(frozen=True)
class Jitter:
    """Uniform half-ranges around the aligned frame, how often a view is degraded, and by which presets in turn."""

    degrees: float
    scale: float
    shift: float
    degraded: float
    presets: Sequence[str] = ("wide",)


def random_view(
    picture: Pixels, to_frame: Matrix, size: int, jitter: Jitter, rng: np.random.Generator
) -> tuple[Pixels, Matrix, bool]:
    """A view `[size, size, 3]`, the transform from the picture's pixels to it, and whether it is mirrored.

    `to_frame` brings the picture into the square aligned frame of `size`.
    """
    angle = np.deg2rad(rng.uniform(-jitter.degrees, jitter.degrees))
    scale = np.exp(rng.uniform(-jitter.scale, jitter.scale))
    shift = rng.uniform(-jitter.shift, jitter.shift, 2) * size
    linear = scale * np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    centre = np.array([size / 2, size * 0.6])
    matrix = compose(np.column_stack([linear, centre - linear @ centre + shift]), to_frame)
    mirrored = bool(rng.random() < 0.5)
    if mirrored:
        matrix = compose([(-1.0, 0.0, size - 1.0), (0.0, 1.0, 0.0)], matrix)
    view = relight(warp(picture, matrix, (size, size)), rng)
    if rng.random() < jitter.degraded:
        preset = PRESETS[jitter.presets[int(rng.integers(len(jitter.presets)))]]
        view = degrade(view, preset, rng, scale=size / ALIGNED_SIZE)
    return view, matrix, mirrored


def moved_landmarks(landmarks: NDArray[np.float32], matrix: Matrix, mirrored: bool) -> NDArray[np.float64]:
    """Landmarks `[68, 2]` in a view that `random_view` made."""
    points = transform_points(matrix, landmarks)
    return points[MIRRORED] if mirrored else points


def relight(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Gamma, contrast and a little colour; one in ten grey."""
    x = (picture.astype(np.float32) / 255) ** np.exp(rng.uniform(-0.5, 0.5))
    x = (x - 0.5) * rng.uniform(0.7, 1.2) + 0.5 + rng.uniform(-0.1, 0.1)
    x = x * rng.uniform(0.9, 1.1, 3).astype(np.float32)
    if rng.random() < 0.1:
        x = np.repeat(x.mean(2, keepdims=True), 3, axis=2)
    out: Pixels = (np.clip(x, 0, 1) * 255).round().astype(np.uint8)
    return out
