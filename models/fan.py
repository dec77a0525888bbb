"""The FAN of face-alignment as a landmark detector: its network, our own sub-pixel decoding; nothing is downloaded.

Needs `pip install honestface[facetools]`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.errors import HonestFaceError, WeightsError
from models.face_analyzer import Landmarks

#: FAN's input side; its heatmaps have a quarter of it.
SIZE = 256


def peak_positions(heatmaps: Tensor) -> Tensor:
    """Sub-pixel peaks `[B, N, 2]` (x, y in cells, integer = centre of a cell) of heatmaps `[B, N, h, w]`.

    A parabola through the logarithms of the highest cell and its neighbours, which is exact for a Gaussian; at the rim
    it is the cell itself. The library's decoding gives whole pixels: too coarse for the affine landmark distance.
    """
    height, width = heatmaps.shape[2:]
    flat = heatmaps.float().clamp(min=1e-6).log().flatten(2)
    best = flat.argmax(2, keepdim=True)
    x, y = best % width, best // width

    def shift(place: Tensor, count: int, step: int) -> Tensor:
        inside = (place > 0) & (place < count - 1)
        before, after = (flat.gather(2, torch.where(inside, best + s, best)) for s in (-step, step))
        here = flat.gather(2, best)
        curvature = (2 * here - before - after).clamp(min=1e-6)
        return torch.where(inside, (after - before) / (2 * curvature), 0.0).clamp(-0.5, 0.5)

    return torch.cat([x + shift(x, width, 1), y + shift(y, height, width)], 2)


@dataclass(frozen=True)
class FanConfig:
    """A FAN is a stack of hourglasses; the published one has four."""

    hourglasses: int
    kind: Literal["fan"] = "fan"


def fan(config: FanConfig) -> nn.Module:
    """The network with random weights; raises `HonestFaceError` where the library is not installed."""
    try:
        from face_alignment.models import FAN
    except ImportError as error:
        raise HonestFaceError(f"face-alignment is needed ({error}): pip install honestface[facetools]") from None
    network: nn.Module = FAN(config.hourglasses)
    return network


def fan_config_for(state: Mapping[str, Tensor], source: str) -> FanConfig:
    """The shape of the FAN whose weights `state` holds; raises `WeightsError` where it is none."""
    hourglasses = len({key.split(".")[0] for key in state if key.endswith(".b1_4.bn1.weight")})
    if hourglasses == 0:
        raise WeightsError(f"{source}: not the weights of a FAN: m0.b1_4.bn1.weight is missing")
    return FanConfig(hourglasses)


class FanLandmarkDetector:
    """A FAN as a `LandmarkDetector`.

    It was trained on squares about 1.15 times the side of an FFHQ-512 crop around the same face, within the range of
    scales that it was augmented with: the crop is taken as it is.
    """

    def __init__(self, network: nn.Module, name: str) -> None:
        self.network, self._name = network.eval(), name

    @property
    def name(self) -> str:
        return self._name

    def landmarks(self, crops: Tensor) -> Landmarks:
        """Points in the crop's pixels and the last hourglass's heatmaps, 64 x 64."""
        side = crops.shape[-1]
        pictures = crops if side == SIZE else F.interpolate(crops, (SIZE, SIZE), mode="bilinear", antialias=True)
        heatmaps: Tensor = self.network(pictures.add(1).mul(0.5))[-1].float()
        points = (peak_positions(heatmaps) + 0.5) * (side / heatmaps.shape[-1]) - 0.5
        return Landmarks(points=points, heatmaps=heatmaps.clamp(0, 1))
