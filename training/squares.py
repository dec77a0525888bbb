"""Squares of faces: training restores, decodes and judges parts of a picture, which costs less than the whole."""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.honestface import HonestFace

#: Row and column.
Corner = tuple[int, int]


def random_corner(images: Tensor, side: int) -> Corner:
    """Of a square of `side` inside `[B, C, H, W]`."""
    row, column = (int(torch.randint(0, length - side + 1, ())) for length in images.shape[2:])
    return row, column


def in_pixels(network: HonestFace, corner: Corner) -> Corner:
    """Where a latent position begins in the picture."""
    return corner[0] * network.vae.patch, corner[1] * network.vae.patch


def cut(images: Tensor, corner: Corner, side: int) -> Tensor:
    """The square of `side` at a corner of `[B, C, H, W]`."""
    return images[:, :, corner[0] : corner[0] + side, corner[1] : corner[1] + side]


@dataclass(frozen=True, eq=False)
class DecodedSquare:
    """A square of restored faces in pixels and the truth of it, `[B, 3, S, S]`; `corner` (px) is where in the face."""

    restored: Tensor
    truth: Tensor
    corner: Corner = (0, 0)

    def part(self, side: int) -> "DecodedSquare":
        """A random square of `side` pixels of it."""
        corner = random_corner(self.truth, side)
        row, column = self.corner
        where = row + corner[0], column + corner[1]
        return DecodedSquare(cut(self.restored, corner, side), cut(self.truth, corner, side), where)


def decode_square(
    network: HonestFace, restored: Tensor, truth: Tensor, side: int, corner: Corner = (0, 0)
) -> DecodedSquare:
    """Decodes a random square of `side` pixels of latents `[B, C, h, w]`; `truth` `[B, 3, H, W]` is what they show.

    `corner` is where in the face these lie, in pixels.
    """
    cells = side // network.vae.patch
    inside = random_corner(restored, cells)
    decoded = network.vae.decode(cut(restored, inside, cells))
    row, column = in_pixels(network, inside)
    return DecodedSquare(decoded, cut(truth, (row, column), side), (corner[0] + row, corner[1] + column))
