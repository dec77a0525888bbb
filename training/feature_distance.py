"""VGG16-feature distance: what is measured and trained on where LPIPS and DISTS cannot be had; named for what it is."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.errors import WeightsError
from models.foreign_weights import read_weights

#: torchvision's indices of VGG16's convolutions, channels in and out; a pooling stands before those in POOLED.
CONVOLUTIONS = {0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256)}
POOLED = (5, 10)
CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)


class VGG16FeatureDistance(nn.Module):
    """Sum over `layers` of the mean squared distance between channel-normalised VGG16 features; frozen.

    Loads the Caffe-order weights (BGR, 0..255 less the mean) under torchvision's key names.
    """

    name = "VGG16 features"

    def __init__(self, weights: Path, layers: Sequence[int] = (2, 7)) -> None:
        super().__init__()
        self.layers = tuple(layers)
        state = read_weights(weights)
        self.convolutions = nn.ModuleDict()
        for index, (channels_in, channels_out) in CONVOLUTIONS.items():
            if index > max(self.layers):
                break
            convolution = nn.Conv2d(channels_in, channels_out, 3, padding=1)
            try:
                convolution.load_state_dict({k: state[f"features.{index}.{k}"].float() for k in ("weight", "bias")})
            except (KeyError, RuntimeError):
                raise WeightsError(
                    f"{weights} is not a VGG16 feature file: features.{index} is missing or of another shape"
                ) from None
            self.convolutions[str(index)] = convolution
        self.register_buffer("mean", torch.tensor(CAFFE_MEAN_BGR).view(1, 3, 1, 1))
        self.mean: Tensor
        self.requires_grad_(False)

    def activations(self, images: Tensor) -> list[Tensor]:
        """Of RGB images `[B, 3, H, W]` in [-1, 1], one tensor a layer, as they leave it: 0 or more, some hundreds at
        edges."""
        h = (images.flip(1) + 1) * 127.5 - self.mean
        found = []
        for name, convolution in self.convolutions.items():
            if int(name) in POOLED:
                h = F.max_pool2d(h, 2)
            h = F.relu(convolution(h))
            if int(name) in self.layers:
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
