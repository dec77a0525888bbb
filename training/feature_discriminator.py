"""A discriminator of pictures that looks through a frozen VGG16 and knows where on a face it looks."""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from models.geometry import ALIGNED_SIZE
from training.feature_distance import VGG16FeatureDistance
from training.squares import Corner

#: Pixels from one score to the next.
_STRIDE = 8
#: Waves of row and of column that say where a score looks: half a wave on an aligned face, then octaves.
_OCTAVES = 4


class FeatureDiscriminator(nn.Module):
    """Scores (logits) of pictures: a small network on each of VGG16's layers, with spectral normalisation.

    A network that already sees leaves it little to learn, as in Projected GANs (Sauer et al., 2021); one from random
    weights had led to no texture in as many steps (docs/experiments.md).
    """

    def __init__(self, vgg16: VGG16FeatureDistance, width: int = 64) -> None:
        super().__init__()
        self.vgg16 = vgg16
        self.heads = nn.ModuleList(
            _Head(channels, stride, width) for channels, stride in map(vgg16.channels_and_stride, vgg16.layers)
        )

    def forward(self, pictures: Tensor, corner: Corner = (0, 0)) -> Tensor:
        """`[B, layers * H/8 * W/8]` of parts `[B, 3, H, W]` in [-1, 1] of aligned faces, which lie at `corner`."""
        layers = zip(self.heads, self.vgg16.activations(pictures), strict=True)
        return torch.cat([head(h.float().log1p(), corner).flatten(1) for head, h in layers], dim=1)


class _Head(nn.Module):
    """One score each 8 x 8 pixels from a layer's features, `stride` pixels apart."""

    def __init__(self, channels: int, stride: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [spectral_norm(nn.Conv2d(channels, width, 1)), nn.LeakyReLU(0.2)]
        while stride < _STRIDE:
            layers += [spectral_norm(nn.Conv2d(width, width, 4, 2, 1)), nn.LeakyReLU(0.2)]
            stride *= 2
        self.look = nn.Sequential(*layers)
        self.judge = nn.Sequential(
            spectral_norm(nn.Conv2d(width + 4 * _OCTAVES, width, 3, 1, 1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(width, 1, 3, 1, 1)),
        )

    def forward(self, features: Tensor, corner: Corner) -> Tensor:
        x = self.look(features)
        rows, columns = (_waves(x, length, start) for length, start in zip(x.shape[2:], corner, strict=True))
        shape = (len(x), -1, *x.shape[2:])
        scores: Tensor = self.judge(torch.cat([x, rows[:, :, None].expand(shape), columns[:, None].expand(shape)], 1))
        return scores


def _waves(like: Tensor, length: int, start: int) -> Tensor:
    """Sines and cosines `[2 * octaves, length]` of the places of scores, of which the first begins at `start` px."""
    places = (start + _STRIDE * (torch.arange(length, device=like.device) + 0.5)) / ALIGNED_SIZE
    angles = torch.pi * 2.0 ** torch.arange(_OCTAVES, device=like.device)[:, None] * places
    return torch.cat([angles.sin(), angles.cos()]).to(like.dtype)
