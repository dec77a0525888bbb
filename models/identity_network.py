"""The tiny profile's identity encoder: a small residual network on ArcFace-112 crops."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.geometry import arcface_crop


@dataclass(frozen=True)
class IdentityNetworkConfig:
    """`widths` are the channels at 56, 28, 14 and 7 pixels."""

    widths: tuple[int, int, int, int] = (32, 64, 96, 160)
    blocks: tuple[int, int, int, int] = (1, 2, 3, 2)
    embedding: int = 128


class Block(nn.Module):
    """Pre-activation residual block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.PReLU(width),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class IdentityNetwork(nn.Module):
    """ArcFace-112 crops `[B, 3, 112, 112]`, RGB in [-1, 1], to unit embeddings `[B, embedding]`.

    What the layers learn (`describe`) is averaged over a crop and its mirror image, and whitened after training
    (training/whitening.py): cosines then tell people apart better, above all in degraded pictures (docs/adr/012).
    """

    def __init__(self, config: IdentityNetworkConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        before = 3
        for width, blocks in zip(config.widths, config.blocks, strict=True):
            layers += [
                nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.PReLU(width),
            ]
            layers += [Block(width) for _ in range(blocks)]
            before = width
        self.body = nn.Sequential(*layers)
        # a depthwise 7x7 "global" convolution: each place of the face has its own weight, unlike average pooling
        self.place = nn.Conv2d(before, before, 7, groups=before, bias=False)
        self.head = nn.Sequential(nn.BatchNorm1d(before), nn.Linear(before, config.embedding))
        self.whitening = nn.Linear(config.embedding, config.embedding).requires_grad_(False)
        self.whitening.weight.copy_(torch.eye(config.embedding))
        self.whitening.bias.zero_()

    def forward(self, crops: Tensor) -> Tensor:
        return F.normalize(self.whitening(self.describe_both_ways(crops)).float(), dim=1)

    def describe_both_ways(self, crops: Tensor) -> Tensor:
        """Unit means `[B, embedding]` of the embeddings of crops and of their mirror images, before whitening."""
        seen, mirrored = self.describe(torch.cat([crops, crops.flip(3)])).chunk(2)
        return F.normalize(seen + mirrored, dim=1)

    def describe(self, crops: Tensor) -> Tensor:
        """Unit embeddings `[B, embedding]` as learned, before whitening."""
        return F.normalize(self.head(self.place(self.body(crops)).flatten(1)).float(), dim=1)


class EmbeddedIdentityEncoder:
    """The identity network as an `IdentityEncoder` of FFHQ-512-aligned faces."""

    def __init__(self, network: IdentityNetwork, name: str) -> None:
        self.network, self._name = network.eval(), name

    @property
    def name(self) -> str:
        return self._name

    @property
    def width(self) -> int:
        return self.network.config.embedding

    def embed(self, faces: Tensor) -> Tensor:
        embeddings: Tensor = self.network(arcface_crop(faces))
        return embeddings
