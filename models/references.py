"""Reference faces of a batch, packed: image i has any number of them, none included, and nothing is padded."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from models.errors import GeometryError


@dataclass(frozen=True, eq=False)
class Reference:
    """One aligned reference face: `image [3, 512, 512]` RGB in [-1, 1], `landmarks [68, 2]` in its pixels, and the unit
    vector `identity [d]`; `generated` if its picture says that a trained model made it or part of it. Raises
    `GeometryError` for landmarks that are not finite."""

    image: Tensor
    landmarks: Tensor
    identity: Tensor
    generated: bool = False

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.landmarks.shape != (68, 2) or self.identity.ndim != 1:
            shapes = [tuple(part.shape) for part in (self.image, self.landmarks, self.identity)]
            raise ValueError(f"a reference is an image [3, H, W], landmarks [68, 2] and an identity [d], got {shapes}")
        if not self.landmarks.isfinite().all():
            raise GeometryError("the landmarks of a reference must be finite")


@dataclass(frozen=True, eq=False)
class References:
    """All references of a batch of `batch` images: `images [R, 3, 512, 512]`, `landmarks [R, 68, 2]`,
    `identity [R, d]`, and `owner [R]`, int64 and ascending, the image that each row belongs to; R >= 1. `sources` are
    the references that were packed, row by row, or empty: what is made of one alone can be kept for it."""

    images: Tensor
    landmarks: Tensor
    identity: Tensor
    owner: Tensor
    batch: int
    sources: tuple[Reference, ...] = ()

    def __post_init__(self) -> None:
        rows = {len(part) for part in (self.images, self.landmarks, self.identity, self.owner)}
        if len(rows) != 1 or rows == {0} or self.owner.dtype != torch.int64:
            raise ValueError("packed references need the same number of rows, at least one, and an int64 owner")

    @classmethod
    def pack(cls, batch: Sequence[Sequence[Reference]]) -> Self | None:
        """Packs the references of each image of a batch; None when no image has any."""
        rows = [(image, reference) for image, references in enumerate(batch) for reference in references]
        if not rows:
            return None
        return cls(
            images=torch.stack([reference.image for _, reference in rows]),
            landmarks=torch.stack([reference.landmarks for _, reference in rows]),
            identity=torch.stack([reference.identity for _, reference in rows]),
            owner=torch.tensor([image for image, _ in rows], device=rows[0][1].image.device),
            batch=len(batch),
            sources=tuple(reference for _, reference in rows),
        )

    def part(self, start: int, end: int) -> "References | None":
        """The references of the images from `start` up to `end` as a batch of its own; None when they have none. Waits
        for the device, but for the whole batch, which is not copied."""
        if start == 0 and end == self.batch:
            return self
        rows = ((self.owner >= start) & (self.owner < end)).nonzero()[:, 0]
        if not len(rows):
            return None
        owner = self.owner[rows] - start
        sources = self.sources and tuple(self.sources[row] for row in rows.tolist())
        return References(self.images[rows], self.landmarks[rows], self.identity[rows], owner, end - start, sources)

    def to(self, device: torch.device | str) -> "References":
        """The same on another device."""
        return replace(
            self,
            images=self.images.to(device),
            landmarks=self.landmarks.to(device),
            identity=self.identity.to(device),
            owner=self.owner.to(device),
        )


# The helpers add and compare row after row in the order of the rows, so that on a CPU a segment's result is the same to
# the bit whatever other segments there are. They read nothing back from the device. On CUDA the sums are atomic: the
# order within a segment, and with it the last bit, is free unless torch.use_deterministic_algorithms is on.


def segment_sum(values: Tensor, owner: Tensor, batch: int) -> Tensor:
    """Sums rows `[R, ...]` over each owner: `[B, ...]`, zero where an image owns none."""
    return values.new_zeros(batch, *values.shape[1:]).index_add(0, owner, values)


def segment_softmax(logits: Tensor, owner: Tensor, batch: int) -> Tensor:
    """Softmax of `[R, ...]` over the rows of each owner: the weights of an image's rows add to one."""
    index = owner.reshape(-1, *[1] * (logits.ndim - 1)).expand_as(logits)
    # A shift changes nothing but the range, so it carries no gradient.
    highest = logits.detach().new_full((batch, *logits.shape[1:]), -torch.inf)
    highest = highest.scatter_reduce(0, index, logits.detach(), "amax")
    weights = (logits - highest[owner]).exp()
    return weights / segment_sum(weights, owner, batch)[owner]


def segment_argmin(values: Tensor, owner: Tensor, batch: int) -> Tensor:
    """The row `[B]`, int64, of the smallest of `values [R]` for each owner, the first of equals; -1 where it owns none.

    NaN counts as infinity: an image that owns rows always gets one of them.
    """
    values = values.detach().nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
    lowest = values.new_full((batch,), torch.inf).scatter_reduce(0, owner, values, "amin")
    rows = torch.arange(len(values), device=values.device)
    rows = torch.where(values == lowest[owner], rows, len(values))
    first = rows.new_full((batch,), len(values)).scatter_reduce(0, owner, rows, "amin")
    return torch.where(first < len(values), first, -1)
