"""What both restoration stages, blind and reference-conditioned, share: settings, frozen parts, LoRA, losses."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from models.choices import ProfileName
from models.geometry import ALIGNED_SIZE
from models.honestface import HonestFace, HonestFaceConfig
from models.lora import adapter_state, add_adapters, merge_lora
from training.adversary import RestorationAdversarialConfig
from training.feature_distance import VGG16FeatureDistance
from training.grid_loss import grid_loss
from training.onnx_recogniser import RecogniserConfig
from training.perceptual_distance import PerceptualConfig
from training.psnr_loss import psnr_loss
from training.seam_loss import seam_loss
from training.spectrum_loss import SMALLEST_SIDE, spectrum_loss
from training.squares import DecodedSquare
from training.stage import Presets, Weight
from training.texture_loss import WINDOW, texture_loss

PIXEL_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": F.l1_loss,
    "mse": F.mse_loss,
    "psnr": psnr_loss,
}


class RestorationConfig(RestorationAdversarialConfig):
    """What both restoration stages set."""

    perceptual: PerceptualConfig
    """What `feature_weight` counts."""
    profile: ProfileName = "tiny"
    lora_rank: int = Field(0, ge=0)
    """Rank (and alpha) of LoRA on the UNet; 0 trains all of it."""
    warm_start: Path | None = None
    """A folder with components of an earlier run to begin with."""
    checkpointing: bool = False
    """Compute the UNet's and a KL autoencoder's blocks twice instead of keeping what is between them: less memory."""
    presets: Presets = ("vqfr-v2", "vqfr-v1", "wide")
    crop_side: int = Field(512, multiple_of=64)
    """Side in pixels of the square that is restored; 512 is the whole face."""
    squares: int = Field(1, ge=1)
    """How many such squares of each face a step sees: further ones cost no degradation and no prompt."""
    decoded_side: int = Field(224, multiple_of=8)
    """Side in pixels of the square inside it that is decoded for the losses on pixels."""
    latent_weight: Weight = 1.0
    pixel_weight: Weight = 1.0
    pixel_loss: Literal["l1", "mse", "psnr"] = "l1"
    grid_weight: Weight = 0.0
    """Of what repeats from patch to patch (`grid_loss`)."""
    seam_weight: Weight = 0.0
    """Of changes from pixel to pixel that keep step with a lattice (`seam_loss`)."""
    spectrum_weight: Weight = 0.0
    """Of the power of fine detail, frequency by frequency (`spectrum_loss`)."""
    texture_weight: Weight = 0.0
    """Of VGG16's activations in small windows, wherever they lie (`texture_loss`), at the steps and on the part of the
    perceptual distance, which must be of kind "vgg16-features"."""
    feature_weight: Weight = 0.1
    """Of the perceptual distance; Eq. 9 is `perceptual: {kind: dists, edges: true, backbone: ...}`."""
    feature_every: int = Field(2, ge=1)
    feature_from: int = Field(0, ge=0)
    """The step from which the perceptual distance counts: a small network learns faster without it at first."""
    feature_side: int = 160
    identity: Path | None = None
    """The identity run's network: recogniser f_i of Eq. 8."""
    face_tools: Path | None = None
    """A bundle whose identity network (ArcFace, say) to use instead, and where landmarks are needed theirs too."""
    recognisers: tuple[RecogniserConfig, ...] = ()
    """Recognisers f_i of Eq. 8 beside it."""
    identity_weight: Weight = 0.0
    """Of Eq. 8."""
    face_every: int = Field(4, ge=1)
    """How often whole faces are restored for the identity loss; the steps between see squares of `crop_side`."""
    face_batch: int = Field(4, ge=1)
    """Whole faces of such a step, at most; where all steps see whole faces, `batch` alone counts."""

    @model_validator(mode="after")
    def _squares_lie_inside_one_another(self) -> Self:
        """Each side is at most the side of what it is part of; those of a weight of 0 are not looked at."""
        parts = [("crop_side", self.crop_side, ALIGNED_SIZE), ("decoded_side", self.decoded_side, self.crop_side)]
        if self.feature_weight or self.texture_weight:
            parts.append(("feature_side", self.feature_side, self.decoded_side))
        if self.feature_gan_weight:
            parts.append(("feature_gan_side", self.feature_gan_side, self.decoded_side))
        for name, side, whole in parts:
            if not 0 < side <= whole:
                raise ValueError(f"{name} is {side}, must be 1 to {whole}")
        if self.spectrum_weight and self.decoded_side < SMALLEST_SIDE:
            raise ValueError(f"decoded_side is {self.decoded_side}, spectrum_weight needs {SMALLEST_SIDE} at least")
        return self

    @model_validator(mode="after")
    def _texture_has_activations_of_whole_windows(self) -> Self:
        if self.texture_weight:
            if self.perceptual.kind != "vgg16-features" or self.perceptual.edges:
                raise ValueError("texture_weight needs a perceptual distance of kind vgg16-features, without edges")
            if self.feature_side % WINDOW:
                raise ValueError(f"feature_side is {self.feature_side}, texture_weight needs a multiple of {WINDOW}")
        return self


def inherited(network: HonestFace) -> list[str]:
    """The parts that a blind model hands over."""
    return [name for name in ("vae", "unet", "vre", "position_map") if getattr(network, name) is not None]


def adapt(unet: nn.Module, rank: int) -> None:
    """Put LoRA on a UNet, of alpha = rank, and train nothing else of it."""
    add_adapters(unet, rank, rank)
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(".lora_" in name)


def without_adapters(network: HonestFace, shape: HonestFaceConfig) -> HonestFace:
    """A copy with LoRA merged into the UNet's weights."""
    merged = HonestFace(shape)
    adapters = adapter_state(network.unet)
    plain = {k.replace(".base_layer.", "."): v for k, v in network.state_dict().items() if ".lora_" not in k}
    merged.load_state_dict(plain)
    if adapters:
        rank = next(len(value) for name, value in adapters.items() if ".lora_A." in name)
        merge_lora(merged.unet, adapters, alpha=rank)
    return merged


def keep_less(network: HonestFace) -> None:
    """Gradient checkpointing in the UNet and in a KL autoencoder."""
    for part in (network.unet, getattr(network.vae, "network", None)):
        if part is not None:
            part.enable_gradient_checkpointing()


def mean_losses(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each loss over several squares."""
    return {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}


def freeze_all_but(network: nn.Module, prefixes: tuple[str, ...]) -> None:
    """Train only the parameters whose names begin with one of the prefixes."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(prefixes))


def visual_prompt(network: HonestFace, lq: Tensor) -> Tensor:
    """The VRE's prompt with gradients to its projection alone."""
    # codes are chosen in float32, as they are when the model is used
    with torch.no_grad(), torch.autocast(lq.device.type, enabled=False):
        tokens, _ = network.vre.select_tokens(network.vre.encode(lq))
    prompt: Tensor = network.vre.projection(tokens)
    return prompt


def restoration_losses(
    restored: Tensor,
    target: Tensor,
    decoded: DecodedSquare,
    features: nn.Module,
    config: RestorationConfig,
    step: int,
) -> dict[str, Tensor]:
    """Losses of restored latents `[B, C, h, w]` against target latents, and of a decoded square against the truth."""
    pixel_loss = PIXEL_LOSSES[config.pixel_loss]
    losses = {
        "latent": config.latent_weight * F.l1_loss(restored, target),
        "pixels": config.pixel_weight * pixel_loss(decoded.restored, decoded.truth),
    }
    if config.grid_weight:
        losses["grid"] = config.grid_weight * grid_loss(restored, target)
    if config.seam_weight:
        losses["seams"] = config.seam_weight * seam_loss(decoded.restored)
    if config.spectrum_weight:
        losses["spectrum"] = config.spectrum_weight * spectrum_loss(decoded.restored, decoded.truth)
    seen = config.feature_weight or config.texture_weight
    if seen and step >= config.feature_from and step % config.feature_every == 0:
        part = decoded.part(config.feature_side)
        if config.texture_weight:
            assert isinstance(features, VGG16FeatureDistance)
            with torch.no_grad():
                wanted = features.activations(part.truth)
            found = features.activations(part.restored)
            losses["features"] = config.feature_weight * config.feature_every * features.between(found, wanted)
            texture = texture_loss(found, wanted, config.feature_side)
            losses["texture"] = config.texture_weight * config.feature_every * texture
        else:
            losses["features"] = config.feature_weight * config.feature_every * features(part.restored, part.truth)
    return losses
