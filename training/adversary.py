"""The discriminators that a restoration stage trains against, in latents (the paper's) and in decoded pixels (ours)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.honestface import HonestFace
from training.adversarial_loss import AdversarialLoss, discriminator_loss, generator_loss, r1_penalty
from training.latent_discriminator import LatentDiscriminator
from training.patch_discriminator import PatchDiscriminator
from training.stage import TrainingConfig


class AdversarialConfig(TrainingConfig):
    """A weight of 0 leaves that discriminator out. The paper has the latent one alone and states no weight."""

    latent_gan_weight: float = 0.0
    latent_gan_rank: int = 16
    """LoRA's rank on the discriminator's UNet; 0 trains all of it."""
    pixel_gan_weight: float = 0.0
    pixel_gan_width: int = 32
    gan_loss: AdversarialLoss = "non-saturating"
    gan_from: int = 0
    """The step from which the generator is trained against the discriminators, which learn from the first step on."""
    gan_r1: float = 0.0
    """Weight of R1 on both discriminators; it is taken every `gan_r1_every` steps, for as many."""
    gan_r1_every: int = 8


def adversarial(config: AdversarialConfig) -> bool:
    """Whether any discriminator has a weight."""
    return bool(config.latent_gan_weight or config.pixel_gan_weight)


@dataclass(frozen=True, eq=False)
class _Case:
    """What a discriminator is to tell apart; `about` is what else it is told."""

    restored: Tensor
    real: Tensor
    about: tuple[Any, ...] = ()


class Adversary(nn.Module):
    """Both discriminators. `judge` gives the generator's losses and keeps what it saw; `losses` are their own on that.

    The generator's UNet is copied as it is now: build this before LoRA is put on it. `unet` is another UNet to take
    instead, of the same latents and prompts.
    """

    def __init__(self, config: AdversarialConfig, generator: HonestFace, unet: Any = None) -> None:
        super().__init__()
        self.config = config
        if config.latent_gan_weight:
            self.latent = LatentDiscriminator(
                generator.unet if unet is None else unet,
                generator.diffusion,
                config.latent_gan_rank,
                generator.position_map if unet is None else None,
            )
        if config.pixel_gan_weight:
            self.pixel = PatchDiscriminator(config.pixel_gan_width)
        self._cases: dict[str, _Case] = {}

    def judge(
        self,
        restored: Tensor,
        target: Tensor,
        prompt: Tensor,
        decoded: Tensor,
        square: Tensor,
        step: int,
        corner: tuple[int, int] = (0, 0),
    ) -> dict[str, Tensor]:
        """Weighted L_G of restored latents at a corner of the face (truth: `target`), and of a decoded picture (truth:
        `square`)."""
        cases = {"latent": _Case(restored, target, (prompt.detach().float(), corner)), "pixel": _Case(decoded, square)}
        weights = {"latent": self.config.latent_gan_weight, "pixel": self.config.pixel_gan_weight}
        losses: dict[str, Tensor] = {}
        for name, discriminator in self.named_children():
            case = cases[name]
            self._cases[name] = _Case(case.restored.detach().float(), case.real.detach().float(), case.about)
            if step >= self.config.gan_from:
                scores = discriminator(case.restored, *case.about)
                losses[f"{name}_gan"] = weights[name] * generator_loss(scores, self.config.gan_loss)
        return losses

    def losses(self, step: int) -> dict[str, Tensor]:
        """L_D of each discriminator on what `judge` saw last, and R1 when it is due."""
        losses: dict[str, Tensor] = {}
        for name, discriminator in self.named_children():
            case = self._cases.pop(name)
            real, restored = (discriminator(part, *case.about) for part in (case.real, case.restored))
            losses[f"{name}_discriminator"] = discriminator_loss(restored, real, self.config.gan_loss)
            if self.config.gan_r1 and step % self.config.gan_r1_every == 0:
                losses[f"{name}_r1"] = self.config.gan_r1 * self.config.gan_r1_every * self._r1(discriminator, case)
        return losses

    @staticmethod
    def _r1(discriminator: nn.Module, case: _Case) -> Tensor:
        """In float32 and with the one attention kernel that can be differentiated twice."""
        with torch.autocast(case.real.device.type, enabled=False), sdpa_kernel(SDPBackend.MATH):
            real = case.real.float().requires_grad_()
            return r1_penalty(discriminator(real, *case.about), real)
