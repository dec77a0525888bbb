"""The tiny profile's autoencoder: the best linear transform of small patches (docs/adr/004)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class PixelUnshuffleAutoencoderConfig:
    """`latent_channels` are kept of the 3 * `patch`^2 numbers of a patch of `patch` x `patch` pixels."""

    latent_channels: int = 24
    patch: int = 4
    kind: Literal["pixel_unshuffle"] = "pixel_unshuffle"


class PixelUnshuffleAutoencoder(nn.Module):
    """Deterministic autoencoder with the interface of the generator's VAE.

    `encode`: `[B, 3, H, W]` in [-1, 1] to `[B, latent_channels, H/patch, W/patch]` of unit variance; `decode` back.
    H and W are multiples of `patch`.
    """

    def __init__(self, config: PixelUnshuffleAutoencoderConfig) -> None:
        super().__init__()
        #: Pixels a latent position covers, each way.
        self.patch = config.patch
        self.encoder = nn.Conv2d(3 * self.patch**2, config.latent_channels, 1)
        self.decoder = nn.Conv2d(config.latent_channels, 3 * self.patch**2, 1)

    def encode(self, images: Tensor, seeds: Sequence[int | None] | None = None) -> Tensor:
        """There is no posterior to draw from: seeds change nothing."""
        # a 1x1 convolution of unshuffled patches, as one that strides over them
        patches = self.encoder.weight.view(-1, 3, self.patch, self.patch)
        return F.conv2d(images, patches, self.encoder.bias, stride=self.patch)

    def decode(self, latents: Tensor) -> Tensor:
        return F.pixel_shuffle(self.decoder(latents), self.patch)

    @property
    def channel_scales(self) -> Tensor:
        """How far one unit of each latent channel moves a patch, `[1, C, 1, 1]`: the channel's weight in a loss."""
        lengths: Tensor = self.decoder.weight.detach().flatten(1).norm(dim=0)
        return lengths.view(1, -1, 1, 1)

    @torch.no_grad()
    def fit_principal_components(self, images: Tensor) -> None:
        """Make encoder and decoder the principal components of the patches of `images` `[N, 3, H, W]` (Karhunen-Loeve
        transform), scaled so that each latent channel has unit variance."""
        patches = F.pixel_unshuffle(images, self.patch).transpose(0, 1).flatten(1).T.double()
        mean = patches.mean(0)
        values, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
        channels = self.encoder.out_channels
        deviations = values.flip(0)[:channels].clamp_min(1e-8).sqrt()
        axes = vectors.flip(1)[:, :channels]
        into, back = (axes / deviations).T, axes * deviations
        self.encoder.weight.copy_(into[:, :, None, None])
        self.encoder.bias.copy_(-into @ mean)  # type: ignore[union-attr]
        self.decoder.weight.copy_(back[:, :, None, None])
        self.decoder.bias.copy_(mean)  # type: ignore[union-attr]
