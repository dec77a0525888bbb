"""The tiny profile's landmark network: 68 heatmaps from one small U-shaped network."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.face_analyzer import Landmarks


@dataclass(frozen=True)
class LandmarkNetworkConfig:
    """Crops are resized to `size`, heatmaps have a quarter of it; `widths`: channels at 1/4, 1/8, 1/16 and 1/32."""

    size: int = 192
    widths: tuple[int, int, int, int] = (32, 64, 96, 128)
    points: int = 68


class Block(nn.Module):
    """Residual block: convolution, batch norm, ReLU, convolution, batch norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))


class LandmarkNetwork(nn.Module):
    """Crops `[B, 3, S, S]` in [-1, 1] to heatmap logits `[B, 68, size/4, size/4]`.

    A point is the mean of its heatmap's softmax (`soft_argmax`).
    """

    def __init__(self, config: LandmarkNetworkConfig) -> None:
        super().__init__()
        self.config = config
        a, b, c, d = config.widths
        self.stem = nn.Sequential(
            nn.Conv2d(3, a // 2, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(a // 2),
            nn.ReLU(),
            nn.Conv2d(a // 2, a, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(a),
            nn.ReLU(),
            Block(a),
        )
        self.down = nn.ModuleList(self._down(i, o) for i, o in ((a, b), (b, c), (c, d)))
        self.bottom = Block(d)
        self.up = nn.ModuleList(nn.Conv2d(i, o, 1) for i, o in ((d, c), (c, b), (b, a)))
        self.refine = nn.ModuleList(Block(w) for w in (c, b, a))
        self.head = nn.Conv2d(a, config.points, 1)

    @staticmethod
    def _down(width_in: int, width_out: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(width_in, width_out, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width_out),
            nn.ReLU(),
            Block(width_out),
        )

    def forward(self, crops: Tensor) -> Tensor:
        size = self.config.size
        if crops.shape[-1] != size:
            crops = F.interpolate(crops, (size, size), mode="bilinear", align_corners=False, antialias=True)
        levels = [self.stem(crops)]
        for down in self.down:
            levels.append(down(levels[-1]))
        x = self.bottom(levels.pop())
        for up, refine in zip(self.up, self.refine, strict=True):
            skip = levels.pop()
            x = refine(skip + F.interpolate(up(x), skip.shape[2:], mode="bilinear", align_corners=False))
        logits: Tensor = self.head(x)
        return logits


def soft_argmax(logits: Tensor) -> Tensor:
    """Expected position `[B, N, 2]` of each heatmap `[B, N, h, w]` of logits.

    x and y in 0..1 of the crop, where 0 is its edge and not a pixel centre.
    """
    height, width = logits.shape[2:]
    weights = logits.float().flatten(2).softmax(-1).view_as(logits)
    columns = (torch.arange(width, device=logits.device) + 0.5) / width
    rows = (torch.arange(height, device=logits.device) + 0.5) / height
    return torch.stack([(weights.sum(2) * columns).sum(-1), (weights.sum(3) * rows).sum(-1)], dim=-1)


class HeatmapLandmarkDetector:
    """The landmark network as a `LandmarkDetector`."""

    def __init__(self, network: LandmarkNetwork, name: str) -> None:
        self.network, self._name = network.eval(), name

    @property
    def name(self) -> str:
        return self._name

    def landmarks(self, crops: Tensor) -> Landmarks:
        """Points in the crop's pixels and heatmaps scaled so that each one's peak is 1."""
        logits = self.network(crops).float()
        size = torch.tensor([crops.shape[-1], crops.shape[-2]], device=crops.device)
        heatmaps = logits.flatten(2).softmax(-1).view_as(logits)
        heatmaps = heatmaps / heatmaps.amax((2, 3), keepdim=True)
        return Landmarks(points=soft_argmax(logits) * size - 0.5, heatmaps=heatmaps)
