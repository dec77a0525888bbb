"""The tiny profile's autoencoder: pixel unshuffling and a few residual blocks, 8x smaller each way, nearly lossless."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class PixelUnshuffleAutoencoderConfig:
    """`width` channels work at a quarter of the picture's size; the latent has `latent_channels` at an eighth."""

    latent_channels: int = 64
    width: int = 64
    encoder_blocks: int = 2
    decoder_blocks: int = 3
    latent_blocks: int = 1
    kind: Literal["pixel_unshuffle"] = "pixel_unshuffle"


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a SiLU; starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv2(F.silu(self.conv1(x)))
        return out


class PixelUnshuffleAutoencoder(nn.Module):
    """Deterministic autoencoder with the interface of the generator's VAE.

    `encode`: `[B, 3, H, W]` in [-1, 1] to `[B, latent_channels, H/8, W/8]` of about unit variance; `decode` back.
    H and W are multiples of 8.
    """

    def __init__(self, config: PixelUnshuffleAutoencoderConfig) -> None:
        super().__init__()
        w, c = config.width, config.latent_channels
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(48, w, 3, padding=1),
            *(ResidualBlock(w) for _ in range(config.encoder_blocks)),
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * w, 2 * w, 1),
            *(ResidualBlock(2 * w) for _ in range(config.latent_blocks)),
            nn.Conv2d(2 * w, c, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(c, 2 * w, 3, padding=1),
            *(ResidualBlock(2 * w) for _ in range(config.latent_blocks)),
            nn.Conv2d(2 * w, 4 * w, 1),
            nn.PixelShuffle(2),
            *(ResidualBlock(w) for _ in range(config.decoder_blocks)),
            nn.Conv2d(w, 48, 3, padding=1),
            nn.PixelShuffle(4),
        )
        self.register_buffer("mean", torch.zeros(1, c, 1, 1))
        self.register_buffer("deviation", torch.ones(1, c, 1, 1))
        self.mean: Tensor
        self.deviation: Tensor

    def encode(self, images: Tensor, seeds: Sequence[int | None] | None = None) -> Tensor:
        """There is no posterior to draw from: seeds change nothing."""
        z: Tensor = (self.encoder(images) - self.mean) / self.deviation
        return z

    def decode(self, latents: Tensor) -> Tensor:
        images: Tensor = self.decoder(latents * self.deviation + self.mean)
        return images
