"""The tiny profile's face detector: a small anchor-free network at three scales."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from models.aligned_face import to_network
from models.face_analyzer import Detection
from models.geometry import shrink

STRIDES = (8, 16, 32)
#: Face sizes (geometric mean of the box's sides, px) that each stride answers for.
SIZES = ((0.0, 40.0), (40.0, 96.0), (96.0, 1e9))
#: Long side in px from which on a picture without faces is looked at again at half the size.
ENLARGED = 160
#: A score from which on the detector is sure of a face; how much higher one must be in a quarter turn to count, and how
#: high at least.
SURE, SURER, SURE_IN_A_TURN = 0.85, 0.1, 0.7


@dataclass(frozen=True)
class FaceDetectorConfig:
    """Pictures are shrunk to `long_side` before detection; smaller ones are left as they are."""

    widths: tuple[int, int, int, int] = (16, 32, 48, 64)
    neck: int = 32
    long_side: int = 640
    threshold: float = 0.7
    overlap: float = 0.5


def _convolution(width_in: int, width_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width_in, width_out, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(width_out), nn.ReLU()
    )


class FaceDetectorNetwork(nn.Module):
    """Images `[B, 3, H, W]` in [-1, 1], sides multiples of 32, to what each of A cells sees.

    Scores `[B, A]` are logits, boxes `[B, A, 4]` are x0, y0, x1, y1 in pixels; the finest stride first, row by row.
    """

    def __init__(self, config: FaceDetectorConfig) -> None:
        super().__init__()
        a, b, c, d = config.widths
        n = config.neck
        self.config = config
        self.stem = nn.Sequential(_convolution(3, a, 2), _convolution(a, a, 2), _convolution(a, a))
        self.stages = nn.ModuleList(
            nn.Sequential(_convolution(i, o, 2), _convolution(o, o), _convolution(o, o))
            for i, o in ((a, b), (b, c), (c, d))
        )
        self.lateral = nn.ModuleList(nn.Conv2d(w, n, 1) for w in (b, c, d))
        self.smooth = nn.ModuleList(_convolution(n, n) for _ in STRIDES)
        self.head = nn.ModuleList(nn.Sequential(_convolution(n, n), nn.Conv2d(n, 5, 1)) for _ in STRIDES)
        for head in self.head:
            nn.init.constant_(head[-1].bias[:1], -4.0)  # type: ignore[index]  # almost all cells see no face

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(images)
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        merged: Tensor | None = None
        outputs: list[Tensor] = []
        for level in (2, 1, 0):
            here = self.lateral[level](levels[level])
            if merged is not None:
                here = here + F.interpolate(merged, here.shape[2:], mode="nearest")
            merged = self.smooth[level](here)
            outputs.insert(0, self.head[level](merged))
        scores, boxes = [], []
        for stride, out in zip(STRIDES, outputs, strict=True):
            out = out.float()
            centres = cell_centres(out.shape[2], out.shape[3], stride).to(out)
            shift = out[:, 1:3].flatten(2).transpose(1, 2) * stride
            half = out[:, 3:5].flatten(2).transpose(1, 2).clamp(-4, 5).exp() * stride
            boxes.append(torch.cat([centres + shift - half, centres + shift + half], dim=2))
            scores.append(out[:, 0].flatten(1))
        return torch.cat(scores, 1), torch.cat(boxes, 1)


def cell_centres(rows: int, columns: int, stride: int) -> Tensor:
    """Centres `[rows * columns, 2]` (x, y in px) of a level's cells, row by row."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return (torch.stack([x, y], dim=-1).reshape(-1, 2) + 0.5) * stride


class EmbeddedFaceDetector:
    """The detector network as a `FaceDetector`, with greedy suppression of overlapping boxes."""

    def __init__(self, network: FaceDetectorNetwork) -> None:
        self.network = network.eval()

    def detect(self, picture: NDArray[np.uint8]) -> list[Detection]:
        """Where it is not sure of any face, it looks at the picture in quarter turns as well, and where it is clearly
        surer of one there, those of that turn are taken: scans lie on their sides (docs/adr/026)."""
        found = self._detect(picture)
        if (score := _best(found)) >= SURE:
            return found
        least = max(score + SURER, SURE_IN_A_TURN)
        for turns in (1, 2, 3):
            turned = np.ascontiguousarray(np.rot90(picture, turns))
            there = self._detect(turned)
            if (score := _best(there)) > least:
                found, least = [_turned_back(each, turns, turned.shape) for each in there], score
        return found

    @torch.inference_mode()
    def _detect(self, picture: NDArray[np.uint8]) -> list[Detection]:
        """Where nothing is found, the picture is looked at again at half the size: there a large blurred face is a
        small sharp one (docs/adr/017)."""
        ratio = min(1.0, self.network.config.long_side / max(picture.shape[:2]))
        while True:
            found = self._look(picture, ratio)
            if found or ratio * max(picture.shape[:2]) < ENLARGED:
                return found
            ratio /= 2

    def _look(self, picture: NDArray[np.uint8], ratio: float) -> list[Detection]:
        """Faces in a picture shrunk by `ratio`, in the pixels of the picture as it is given."""
        config = self.network.config
        height, width = picture.shape[:2]
        if ratio < 1:
            picture = shrink(picture, (max(1, round(width * ratio)), max(1, round(height * ratio))))
        image = to_network([picture])
        image = F.pad(image, (0, -image.shape[3] % 32, 0, -image.shape[2] % 32))
        logits, boxes = self.network(image.to(next(self.network.parameters()).device))
        scores = logits[0].sigmoid()
        scores, boxes = scores.cpu(), boxes.cpu()
        keep = (scores >= config.threshold).nonzero()[:, 0]
        keep = keep[scores[keep].argsort(descending=True)][:1000]
        found = boxes[0, keep].numpy() / ratio
        kept = suppress_overlaps(found, config.overlap)
        return [Detection((*map(float, found[i]),), float(scores[keep[i]])) for i in kept]  # type: ignore[arg-type]


def _best(found: list[Detection]) -> float:
    return max((detection.score for detection in found), default=0.0)


def _turned_back(detection: Detection, turns: int, shape: tuple[int, ...]) -> Detection:
    """Turned clockwise so many quarters, out of a picture of this shape (height, width, ...)."""
    (x0, y0, x1, y1), (height, width) = detection.box, shape[:2]
    for _ in range(turns):
        x0, y0, x1, y1 = height - y1, x0, height - y0, x1
        height, width = width, height
    return Detection((x0, y0, x1, y1), detection.score)


def covered_share(box: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection of one box `[4]` with boxes `[N, 4]` over the smaller area of the two."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    smaller = np.minimum((box[2:] - box[:2]).prod(), (others[:, 2:] - others[:, :2]).prod(1))
    share: NDArray[np.float32] = np.clip(high - low, 0, None).prod(1) / np.maximum(smaller, 1e-9)
    return share


def suppress_overlaps(boxes: NDArray[np.float32], overlap: float) -> list[int]:
    """Indices of the boxes `[N, 4]`, best first, of which no better kept box covers more than `overlap`.

    A share of the smaller area, not intersection over union: a mouth taken for a small face lies inside the face's box.
    """
    kept: list[int] = []
    for index, box in enumerate(boxes):
        if not kept or float(covered_share(box, boxes[kept]).max()) <= overlap:
            kept.append(index)
    return kept
