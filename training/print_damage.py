"""What ails paper prints and their scans (ours): the dots of a printing press, or grain, scratches and dust."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

SCREEN_ANGLES = (15.0, 75.0, 45.0)  # degrees, of red's, green's and blue's screen: moire is least where they lie apart


@dataclass(frozen=True)
class PrintDamage:
    """Chances 0..1: `halftone`, grey in `grey_halftone` of these, else `grain` of a sigma of up to `strongest_grain`
    levels of 255, grey in `grey_grain` of these; then `scratches`, with dust."""

    halftone: float = 0.2
    grey_halftone: float = 0.5
    grain: float = 0.8
    strongest_grain: float = 60.0
    grey_grain: float = 0.6
    scratches: float = 0.9


def print_damage(image: Tensor, damage: PrintDamage, rng: np.random.Generator) -> Tensor:
    """A damaged `[1, 3, H, W]` in 0..1 of one in 0..1; grain and dots are as fine as its pixels allow."""
    if rng.random() < damage.halftone:
        image = halftone(image, rng.uniform(2.5, 7.0), rng.random() < damage.grey_halftone, rng)
    elif rng.random() < damage.grain:
        image = grain(image, rng.uniform(0, damage.strongest_grain) / 255, rng.random() < damage.grey_grain, rng)
    return scratch(image, rng) if rng.random() < damage.scratches else image


def grain(image: Tensor, sigma: float, grey: bool, rng: np.random.Generator) -> Tensor:
    """Gaussian noise, as film's grain the same in all colours where it is `grey`. `sigma` in 0..1."""
    channels = 1 if grey else image.shape[1]
    noise = rng.standard_normal((1, channels, *image.shape[2:]), dtype=np.float32)
    return (image + sigma * torch.from_numpy(noise)).clamp(0, 1)


def halftone(image: Tensor, period: float, grey: bool, rng: np.random.Generator) -> Tensor:
    """Dots whose size is the tone, `period` pixels apart: of one screen where it is `grey`, else of one a colour."""
    if grey:
        image = image.mean(1, keepdim=True).expand(-1, 3, -1, -1)
        angles = (45.0,) * 3
    else:
        angles = SCREEN_ANGLES
    turned = rng.uniform(-10, 10)
    rows = torch.arange(image.shape[2], dtype=torch.float32).view(-1, 1)
    columns = torch.arange(image.shape[3], dtype=torch.float32).view(1, -1)
    turns = 2 * np.pi / period
    steepness = rng.uniform(4, 12)  # of ink's edge: the lower, the softer the scan
    screens = []
    for angle in angles:
        a = np.deg2rad(angle + turned)
        u = rows * np.cos(a) + columns * np.sin(a)
        v = columns * np.cos(a) - rows * np.sin(a)
        screens.append(0.5 + 0.25 * (torch.cos(turns * u) + torch.cos(turns * v)))
    return torch.sigmoid(steepness * (image - torch.stack(screens)))


def scratch(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Up to ten scratches or creases, short ones and long, and up to 58 specks, light and dark."""
    height, width = image.shape[2:]
    side = max(height, width)
    twice = (2 * width, 2 * height)  # drawn at twice the size: thin lines are smooth
    for light in (True, False):
        drawing = Image.new("L", twice)
        draw = ImageDraw.Draw(drawing)
        for _ in range(rng.integers(0, 7 if light else 5)):
            draw.line(_crack(side, rng), fill=int(rng.integers(110, 256)), width=_thickness(side, rng), joint="curve")
        for _ in range(rng.integers(0, 40 if light else 20)):
            x, y = rng.uniform(0, twice[0]), rng.uniform(0, twice[1])
            across, down = side * rng.uniform(0.001, 0.012, 2)
            draw.ellipse((x - across, y - down, x + across, y + down), fill=int(rng.integers(110, 256)))
        covers = torch.from_numpy(np.asarray(drawing.reduce(2), dtype=np.float32) / 255)
        tone = rng.uniform(0.8, 1.0) if light else rng.uniform(0.0, 0.25)
        image = image + covers * (tone - image)
    return image


def _thickness(side: int, rng: np.random.Generator) -> int:
    return max(1, round(2 * side * math.exp(rng.uniform(math.log(0.002), math.log(0.016)))))


def _crack(side: int, rng: np.random.Generator) -> list[tuple[float, float]]:
    """A line that wanders, in pixels of a drawing of twice `side`."""
    x, y = rng.uniform(0, 2 * side, 2)
    heading = rng.uniform(0, 2 * np.pi)
    step = 2 * side / 16
    points = [(float(x), float(y))]
    for _ in range(rng.integers(2, 33)):
        heading += rng.normal(0, 0.12)
        x, y = x + step * np.cos(heading), y + step * np.sin(heading)
        points.append((float(x), float(y)))
    return points
