"""LPIPS, the learned perceptual distance that the paper takes for masked face alignment, without torchvision."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.errors import WeightsError
from models.foreign_weights import read_weights
from training.imagenet_backbone import BackboneName, ImageNetBackbone, wheel_file


class LPIPS(nn.Module):
    """LPIPS v0.1 of RGB images `[B, 3, H, W]` in [-1, 1], averaged over the batch; gradients go to the first alone.

    `backbone` is torchvision's state dict of the network; `linear` holds the weights of the channels, by default those
    of the installed `lpips` wheel.
    """

    def __init__(self, net: BackboneName, backbone: Path, linear: Path | None = None) -> None:
        super().__init__()
        self.name = f"LPIPS ({net})"
        self.backbone = ImageNetBackbone(net, backbone)
        path = linear or wheel_file("lpips", f"weights/v0.1/{net}.pth")
        state = read_weights(path)
        self.weights = nn.ParameterList()
        for number in range(len(state)):
            weight = state.get(f"lin{number}.model.1.weight")
            if weight is None:
                raise WeightsError(f"{path} holds no linear weights of LPIPS: lin{number}.model.1.weight is missing")
            self.weights.append(nn.Parameter(weight.float(), requires_grad=False))

    def forward(self, restored: Tensor, truth: Tensor) -> Tensor:
        with torch.no_grad():
            targets = self.backbone(truth)
        distances = [
            (weight * (_unit(a) - _unit(b)).square()).sum(1).mean()
            for weight, a, b in zip(self.weights, self.backbone(restored), targets, strict=True)
        ]
        return torch.stack(distances).sum()


def _unit(features: Tensor) -> Tensor:
    return F.normalize(features.float(), dim=1, eps=1e-10)
