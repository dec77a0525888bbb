"""DISTS, structure and texture similarity, without torchvision."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.errors import WeightsError
from models.foreign_weights import read_weights
from training.imagenet_backbone import ImageNetBackbone, wheel_file

#: Channels of the picture itself and of the five VGG16 stages.
CHANNELS = [3, 64, 128, 256, 512, 512]
STABLE = 1e-6


class L2Pooling(nn.Module):
    """The root of a blurred square in place of VGG16's max pooling: it does not alias."""

    def __init__(self) -> None:
        super().__init__()
        line = torch.hann_window(5, periodic=False)[1:-1]
        kernel = line[:, None] * line
        self.register_buffer("kernel", kernel / kernel.sum())
        self.kernel: Tensor

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel.expand(x.shape[1], 1, 3, 3)
        return (F.conv2d(x.square(), kernel, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()


class DISTS(nn.Module):
    """DISTS of RGB images `[B, 3, H, W]` in [-1, 1], averaged over the batch; gradients go to the first alone.

    `backbone` is torchvision's state dict of VGG16; `weights` holds alpha and beta, by default those of the installed
    `dists-pytorch` wheel.
    """

    name = "DISTS"

    def __init__(self, backbone: Path, weights: Path | None = None) -> None:
        super().__init__()
        self.backbone = ImageNetBackbone("vgg", backbone)
        for place in (4, 9, 16, 23):
            self.backbone.features[place] = L2Pooling()
        path = weights or wheel_file("DISTS_pytorch", "weights.pt")
        state = read_weights(path)
        total = sum(CHANNELS)
        if {key: value.numel() for key, value in state.items()} != {"alpha": total, "beta": total}:
            raise WeightsError(f"{path} holds no weights of DISTS: alpha and beta of {total} channels")
        scale = state["alpha"].sum() + state["beta"].sum()
        self.register_buffer("alpha", state["alpha"].float().flatten() / scale)
        self.register_buffer("beta", state["beta"].float().flatten() / scale)
        self.alpha: Tensor
        self.beta: Tensor

    def forward(self, restored: Tensor, truth: Tensor) -> Tensor:
        with torch.no_grad():
            targets = self._stages(truth)
        similarity = restored.new_zeros((), dtype=torch.float32)
        parts = zip(
            self._stages(restored),
            targets,
            torch.split(self.alpha, CHANNELS),
            torch.split(self.beta, CHANNELS),
            strict=True,
        )
        for x, y, alpha, beta in parts:
            x_mean, y_mean = x.mean((2, 3)), y.mean((2, 3))
            texture = (2 * x_mean * y_mean + STABLE) / (x_mean.square() + y_mean.square() + STABLE)
            x_variance, y_variance = x.var((2, 3), correction=0), y.var((2, 3), correction=0)
            covariance = (x * y).mean((2, 3)) - x_mean * y_mean
            structure = (2 * covariance + STABLE) / (x_variance + y_variance + STABLE)
            similarity = similarity + (alpha * texture + beta * structure).sum(1).mean()
        return 1 - similarity

    def _stages(self, images: Tensor) -> list[Tensor]:
        return [((images + 1) / 2).float(), *(stage.float() for stage in self.backbone(images))]
