"""VGG16-feature distance: what is measured and trained on where LPIPS and DISTS cannot be had; named for what it is."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.errors import HonestFaceError, WeightsError
from models.foreign_weights import read_weights
from models.vgg16 import vgg16_features

CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)


class VGG16FeatureDistance(nn.Module):
    """Sum over `layers` of the mean squared distance between channel-normalised VGG16 features; frozen.

    Layers are convolutions by their number in `models.vgg16`, seen past their ReLU. Loads the Caffe-order weights (BGR,
    0..255 less the mean) under torchvision's key names.

    Raises:
        HonestFaceError: a layer is no convolution, or the file is missing or holds no such weights.
    """

    name = "VGG16 features"

    def __init__(self, weights: Path, layers: Sequence[int] = (2, 7)) -> None:
        super().__init__()
        self.layers = tuple(layers)
        state = read_weights(weights)
        self.convolutions = vgg16_features(max(self.layers) + 1)
        for layer in self.layers:
            if not (0 <= layer < len(self.convolutions) and isinstance(self.convolutions[layer], nn.Conv2d)):
                raise HonestFaceError(f"layer {layer} of VGG16 is no convolution")
        for name, value in self.convolutions.state_dict().items():
            found = state.get(f"features.{name}")
            if found is None or found.shape != value.shape:
                raise WeightsError(
                    f"{weights} is not a VGG16 feature file: features.{name} is missing or of another shape"
                )
            value.copy_(found)
        self.register_buffer("mean", torch.tensor(CAFFE_MEAN_BGR).view(1, 3, 1, 1))
        self.mean: Tensor
        self.requires_grad_(False)

    def channels_and_stride(self, layer: int) -> tuple[int, int]:
        """How many channels a layer's activations have, and how many pixels lie between two of them."""
        before = list(self.convolutions)[:layer]
        channels = int(self.convolutions[layer].get_parameter("weight").shape[0])
        return channels, 2 ** sum(isinstance(part, nn.MaxPool2d) for part in before)

    def activations(self, images: Tensor) -> list[Tensor]:
        """Of RGB images `[B, 3, H, W]` in [-1, 1], one tensor a layer, as they leave it: 0 or more, some hundreds at
        edges."""
        h = (images.flip(1) + 1) * 127.5 - self.mean
        found = []
        for index, layer in enumerate(self.convolutions):
            h = layer(h)
            if index - 1 in self.layers:
                found.append(h)
        return found

    def forward(self, restored: Tensor, truth: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.activations(truth)
        return self.between(self.activations(restored), wanted)

    def between(self, restored: Sequence[Tensor], truth: Sequence[Tensor]) -> Tensor:
        """The distance between activations that are at hand."""
        normalised = [[F.normalize(h.float(), dim=1) for h in layers] for layers in (restored, truth)]
        return torch.stack([(a - b).pow(2).sum(1).mean() for a, b in zip(*normalised, strict=True)]).sum()
