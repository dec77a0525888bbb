"""A face drawn by hand: 68 landmarks in the frame of the FFHQ-512 template."""

import math

import torch
from torch import Tensor


def drawn_landmarks(seed: int | None = None, pixels: float = 4.0) -> Tensor:
    """Landmarks `[68, 2]`, each moved by some `pixels` when a seed is given."""

    def arc(centre: tuple[float, float], radii: tuple[float, float], angles: list[float]) -> list[list[float]]:
        (x, y), (a, b) = centre, radii
        return [[x + a * math.cos(math.radians(t)), y + b * math.sin(math.radians(t))] for t in angles]

    eye = [180.0, 240.0, 300.0, 0.0, 60.0, 120.0]
    points = [
        *arc((256, 260), (150, 200), [180 - 180 * i / 16 for i in range(17)]),
        *arc((193, 235), (50, 40), [200 + 35 * i for i in range(5)]),
        *arc((319, 235), (50, 40), [200 + 35 * i for i in range(5)]),
        *[[256.0, 240.0 + 22 * i] for i in range(4)],
        *[[232.0 + 12 * i, 325.0 - abs(i - 2) * 3] for i in range(5)],
        *arc((193, 240), (30, 11), eye),
        *arc((319, 240), (30, 11), eye),
        *arc((256, 371), (56, 25), [180 + 30 * i for i in range(12)]),
        *arc((256, 371), (45, 10), [180 + 45 * i for i in range(8)]),
    ]
    landmarks = torch.tensor(points)
    if seed is not None:
        landmarks = landmarks + pixels * torch.randn(68, 2, generator=torch.Generator().manual_seed(seed))
    return landmarks
