"""The discriminators that a stage trains against: the paper's in latents, and ours in a picture's features."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.errors import HonestFaceError
from models.honestface import HonestFace
from training.adversarial_loss import AdversarialLoss, discriminator_loss, generator_loss, r1_penalty
from training.feature_discriminator import FeatureDiscriminator
from training.feature_distance import VGG16FeatureDistance
from training.latent_discriminator import LatentDiscriminator
from training.squares import Corner, DecodedSquare
from training.stage import Opponent, TrainingConfig, Weight


class AdversarialConfig(TrainingConfig):
    """What all discriminators share."""

    gan_loss: AdversarialLoss = "non-saturating"
    gan_from: int = 0
    """The step from which the generator is trained against the discriminators, which learn from the first step on."""
    gan_r1: Weight = 0.0
    """Weight of R1 on all discriminators; it is taken every `gan_r1_every` steps, for as many."""
    gan_r1_every: int = Field(8, ge=1)


class RestorationAdversarialConfig(AdversarialConfig):
    """A weight of 0 leaves that discriminator out. The paper has the latent one alone and states no weight."""

    latent_gan_weight: Weight = 0.0
    latent_gan_rank: int = Field(16, ge=0)
    """LoRA's rank on the discriminator's UNet; 0 trains all of it."""
    feature_gan_weight: Weight = 0.0
    """Of the one that sees the perceptual distance's VGG16 features: that must be of kind "vgg16-features"."""
    feature_gan_side: int = 128
    """Side in pixels of the part of the decoded square that it sees."""


@dataclass(frozen=True, eq=False)
class Case:
    """What a discriminator is to tell apart, `[B, ...]` each; `about` is what else it is told."""

    restored: Tensor
    real: Tensor
    about: tuple[Any, ...] = ()


class Adversary(Opponent):
    """Discriminators by name. `judge` gives the generator's losses and keeps the cases; `losses` are their own."""

    def __init__(
        self, discriminators: Mapping[str, nn.Module], weights: Mapping[str, float], config: AdversarialConfig
    ) -> None:
        super().__init__()
        for name, discriminator in discriminators.items():
            self.add_module(name, discriminator)
        self.weights, self.config = dict(weights), config
        self._cases: dict[str, Case] = {}

    def judge(self, cases: Mapping[str, Case], step: int) -> dict[str, Tensor]:
        """Weighted L_G of each discriminator, by its case; gradients go to what was restored alone."""
        losses: dict[str, Tensor] = {}
        for name, discriminator in self.named_children():
            case = cases[name]
            self._cases[name] = Case(case.restored.detach().float(), case.real.detach().float(), case.about)
            if step >= self.config.gan_from:
                scores = discriminator(case.restored, *case.about)
                losses[f"{name}_gan"] = self.weights[name] * generator_loss(scores, self.config.gan_loss)
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
    def _r1(discriminator: nn.Module, case: Case) -> Tensor:
        """In float32 and with the one attention kernel that can be differentiated twice."""
        with torch.autocast(case.real.device.type, enabled=False), sdpa_kernel(SDPBackend.MATH):
            real = case.real.requires_grad_()
            return r1_penalty(discriminator(real, *case.about), real)


def restoration_adversary(
    config: RestorationAdversarialConfig, generator: HonestFace, features: nn.Module
) -> Adversary | None:
    """The opponents of a generator, `latent` and `feature`, or None where the settings give neither a weight.

    The latent one copies the generator's UNet as it is now, so build it before LoRA is put on that. The other one looks
    at pictures through `features`.

    Raises:
        HonestFaceError: `features` are not VGG16's.
    """
    discriminators: dict[str, nn.Module] = {}
    if config.latent_gan_weight:
        discriminators["latent"] = LatentDiscriminator(
            generator.unet, generator.diffusion, config.latent_gan_rank, generator.position_map
        )
    if config.feature_gan_weight:
        if not isinstance(features, VGG16FeatureDistance):
            raise HonestFaceError("feature_gan_weight needs a perceptual distance of kind vgg16-features")
        discriminators["feature"] = FeatureDiscriminator(features)
    weights = {"latent": config.latent_gan_weight, "feature": config.feature_gan_weight}
    return Adversary(discriminators, weights, config) if discriminators else None


def restoration_cases(
    latents: tuple[Tensor, Tensor],
    prompt: Tensor,
    corner: Corner,
    decoded: DecodedSquare,
    config: RestorationAdversarialConfig,
) -> dict[str, Case]:
    """Restored and true latents, which lie at a corner of the face and were made under a prompt; and, where the
    settings have a discriminator for it, a part of a decoded square."""
    cases = {"latent": Case(*latents, (prompt.detach().float(), corner))}
    if config.feature_gan_weight:
        part = decoded.part(config.feature_gan_side)
        cases["feature"] = Case(part.restored, part.truth, (part.corner,))
    return cases
