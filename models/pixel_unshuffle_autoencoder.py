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

    `encode`: `[B, 3, H, W]` in [-1, 1] to `[B, latent_channels, H/patch, W/patch]` of zero mean; `decode` back.
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

    @torch.no_grad()
    def fit_principal_components(self, images: Tensor) -> None:
        """Make encoder and decoder the principal components of the patches of `images` `[N, 3, H, W]` (Karhunen-Loeve
        transform): a turn of the patch and no scaling, so that noise is as small in each channel as in the picture."""
        patches = F.pixel_unshuffle(images, self.patch).transpose(0, 1).flatten(1).T.double()
        mean = patches.mean(0)
        _, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
        axes = vectors.flip(1)[:, : self.encoder.out_channels]
        self.encoder.weight.copy_(axes.T[:, :, None, None])
        self.encoder.bias.copy_(-axes.T @ mean)  # type: ignore[union-attr]
        self.decoder.weight.copy_(axes[:, :, None, None])
        self.decoder.bias.copy_(mean)  # type: ignore[union-attr]
