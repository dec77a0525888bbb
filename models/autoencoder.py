"""The sd21 profile's VAE behind the same two calls as the tiny profile's autoencoder."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from models.stable_diffusion_21 import VAE


@dataclass(frozen=True)
class KLAutoencoderConfig:
    """Keyword arguments of diffusers' AutoencoderKL."""

    arguments: dict[str, Any] = field(default_factory=lambda: dict(VAE))
    kind: Literal["kl"] = "kl"


class KLAutoencoder(nn.Module):
    """Stable Diffusion's AutoencoderKL: `[B, 3, H, W]` in [-1, 1] to scaled latents `[B, C, H/8, W/8]`, and back."""

    def __init__(self, config: KLAutoencoderConfig) -> None:
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

        super().__init__()
        self.network = AutoencoderKL(**config.arguments)
        self.scaling = float(self.network.config.scaling_factor)
        #: Pixels a latent position covers, each way.
        self.patch = 2 ** (len(self.network.config.block_out_channels) - 1)

    def encode(self, images: Tensor, seeds: Sequence[int | None] | None = None) -> Tensor:
        """The posterior's mode, or a draw from it for each image with a seed."""
        posterior = self.network.encode(images).latent_dist
        latents: Tensor = posterior.mode()
        if seeds is not None and any(seed is not None for seed in seeds):
            noise = torch.stack([_noise(seed, latents) for seed in seeds])
            latents = latents + posterior.std * noise
        return latents * self.scaling

    def decode(self, latents: Tensor) -> Tensor:
        images: Tensor = self.network.decode((latents / self.scaling).to(self.network.dtype)).sample
        return images


def _noise(seed: int | None, like: Tensor) -> Tensor:
    """Noise of a seed, drawn on the CPU so that every device sees the same; zeros without a seed."""
    if seed is None:
        return torch.zeros(like.shape[1:], device=like.device, dtype=like.dtype)
    return seeded_noise(seed, like.shape[1:]).to(like.device, like.dtype)


def seeded_noise(seed: int, shape: torch.Size) -> Tensor:
    """Standard normal noise of a seed, on the CPU."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
