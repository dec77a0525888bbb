"""The tiny profile's autoencoder: the best linear transform of 8x8 patches, and convolutions for their seams."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH = 8
#: Side of the patches that `refine` sees as channels.
_QUARTER = 4


@dataclass(frozen=True)
class PixelUnshuffleAutoencoderConfig:
    """`latent_channels` of a patch's 192 are kept; `width` channels at a quarter of the size refine the result."""

    latent_channels: int = 64
    width: int = 48
    refine_blocks: int = 2
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

    `encode`: `[B, 3, H, W]` in [-1, 1] to `[B, latent_channels, H/8, W/8]` of unit variance; `decode` back. H and W are
    multiples of 8.
    """

    def __init__(self, config: PixelUnshuffleAutoencoderConfig) -> None:
        super().__init__()
        c, w = config.latent_channels, config.width
        self.encoder = nn.Conv2d(3 * PATCH**2, c, 1)
        self.decoder = nn.Conv2d(c, 3 * PATCH**2, 1)
        self.refine = nn.Sequential(
            nn.PixelUnshuffle(_QUARTER),
            nn.Conv2d(48, w, 3, padding=1),
            *(ResidualBlock(w) for _ in range(config.refine_blocks)),
            # No bias: one number for each of a quarter's 16 places becomes a grid on every picture (docs/adr/007).
            nn.Conv2d(w, 48, 3, padding=1, bias=False),
            nn.PixelShuffle(_QUARTER),
        )
        nn.init.zeros_(self.refine[-2].weight)  # type: ignore[arg-type]

    def encode(self, images: Tensor, seeds: Sequence[int | None] | None = None) -> Tensor:
        """There is no posterior to draw from: seeds change nothing."""
        # a 1x1 convolution of unshuffled patches, as one that strides over them
        patches = self.encoder.weight.view(-1, 3, PATCH, PATCH)
        return F.conv2d(images, patches, self.encoder.bias, stride=PATCH)

    def decode(self, latents: Tensor) -> Tensor:
        quarters = F.pixel_shuffle(F.conv2d(latents, *self._decoder_of_quarters()), PATCH // _QUARTER)
        # `refine` may be of a lower precision than the rest; all but its two reshapings, which are done already
        refined = self.refine[1:-1](quarters.to(self.refine[1].weight.dtype))  # type: ignore[arg-type]
        return F.pixel_shuffle(quarters + refined, _QUARTER)

    def _decoder_of_quarters(self) -> tuple[Tensor, Tensor]:
        """The decoder's weight and bias, its outputs in the order in which they make 4x4 patches instead of 8x8 ones:
        `refine` works on those, and shuffling to pixels and back would only move memory."""
        split = PATCH // _QUARTER, _QUARTER

        def ordered(values: Tensor) -> Tensor:
            parts = values.view(3, *split, *split, -1)  # colour, row of quarters, row in it, column of quarters, column
            return parts.permute(0, 2, 4, 1, 3, 5).reshape(values.shape)

        assert self.decoder.bias is not None
        return ordered(self.decoder.weight), ordered(self.decoder.bias)

    @property
    def channel_scales(self) -> Tensor:
        """How far one unit of each latent channel moves a patch, `[1, C, 1, 1]`: the channel's weight in a loss."""
        lengths: Tensor = self.decoder.weight.detach().flatten(1).norm(dim=0)
        return lengths.view(1, -1, 1, 1)

    @torch.no_grad()
    def fit_principal_components(self, images: Tensor) -> None:
        """Make encoder and decoder the principal components of the patches of `images` `[N, 3, H, W]` (Karhunen-Loeve
        transform), scaled so that each latent channel has unit variance."""
        patches = F.pixel_unshuffle(images, PATCH).transpose(0, 1).flatten(1).T.double()
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
