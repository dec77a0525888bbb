"""One-step diffusion (paper Eq. 1-4): the low-quality latent counts as the noisy one of step T_L, denoised at once."""

from dataclasses import dataclass

import torch
from torch import Tensor

#: The first and the last beta of Stable Diffusion's noise schedule.
_BETAS = (0.00085, 0.012)


def scaled_linear_alphas_cumprod(steps: int = 1000) -> Tensor:
    """alpha-bar_t `[steps]` of Stable Diffusion's noise schedule, float64."""
    betas = torch.linspace(_BETAS[0] ** 0.5, _BETAS[1] ** 0.5, steps, dtype=torch.float64, device="cpu") ** 2
    return torch.cumprod(1 - betas, dim=0)


@dataclass(frozen=True)
class OneStepDiffusionConfig:
    """`timestep` is the paper's T_L.

    `residual` adds to the network's prediction the noise that keeps the latent as it is, so that a network that answers
    zero restores nothing (the tiny profile, trained from scratch; docs/adr/002).
    """

    timestep: int = 399
    steps: int = 1000
    residual: bool = False


class OneStepDiffusion:
    """The two closed forms around the network."""

    def __init__(self, config: OneStepDiffusionConfig) -> None:
        self.config = config
        self.alphas_cumprod = scaled_linear_alphas_cumprod(config.steps)
        alpha_bar = float(self.alphas_cumprod[config.timestep])
        self.signal: float = alpha_bar**0.5
        self.noise: float = (1 - alpha_bar) ** 0.5

    def restored_latent(self, latent: Tensor, prediction: Tensor) -> Tensor:
        """z_H of Eq. 3 from z_L and the network's prediction, both `[B, C, h, w]`; computed in float32 or better."""
        latent, epsilon = latent.to(torch.promote_types(latent.dtype, torch.float32)), prediction.float()
        if self.config.residual:
            # Eq. 3 with epsilon = z_L (1 - signal) / noise + prediction, simplified so that no rounding is added
            return latent - (self.noise / self.signal) * epsilon
        return (latent - self.noise * epsilon) / self.signal

    def diffuse(self, latent: Tensor, timesteps: Tensor, noise: Tensor) -> Tensor:
        """F(z, t) of Eq. 1 and 5: the latent `[B, C, h, w]` noised to `timesteps` `[B]`."""
        alpha_bar = self.alphas_cumprod.to(latent.device, torch.float32)[timesteps].view(-1, 1, 1, 1).to(latent.dtype)
        return alpha_bar.sqrt() * latent + (1 - alpha_bar).sqrt() * noise


def blend_latents(latent: Tensor, restored: Tensor, strength: Tensor) -> Tensor:
    """From the input's latent (`strength` `[B]` = 0) to the restored one (= 1), exact at both ends."""
    s = strength.to(restored.device, restored.dtype).view(-1, 1, 1, 1)
    return torch.where(s >= 1, restored, latent + s * (restored - latent))
