"""The blind one-step model of the tiny profile: UNet, position map, VRE projection; VAE and dictionary frozen."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from models.honestface import HonestFace
from models.pixel_unshuffle_autoencoder import PixelUnshuffleAutoencoder
from models.profiles import TINY
from training.components import load_component, save_components
from training.faces import load_faces
from training.feature_distance import VGG16FeatureDistance
from training.images import psnr, sheet
from training.restoration_data import RestorationDataset, held_out_samples
from training.stage import Batch, TrainingConfig

CELL = 8  # pixels of one latent position


class BaselineConfig(TrainingConfig):
    vgg16: Path
    """VGG16 features, Caffe order."""
    vae: Path
    vre: Path
    warm_start: Path | None = None
    """A folder with components of an earlier run to begin with."""
    presets: tuple[str, ...] = ("vqfr-v2", "vqfr-v1", "wide")
    decoded_cells: int = 28
    """Side of the square of latent positions that is decoded for the losses on pixels."""
    latent_weight: float = 1.0
    pixel_weight: float = 1.0
    feature_weight: float = 0.1
    feature_every: int = 2
    feature_side: int = 160


class BaselineStage:
    """L1 on latents (in the autoencoder's own units) and on decoded squares, VGG16 features on part of these."""

    def __init__(self, config: BaselineConfig) -> None:
        self.config = config
        self.network = HonestFace(replace(TINY, identity_embedder=None, reference_adapter=None))
        nn.init.zeros_(self.network.unet.conv_out.weight)  # start by restoring nothing
        nn.init.zeros_(self.network.unet.conv_out.bias)
        load_component(self.network.vae, config.vae)
        load_component(self.network.vre, config.vre)
        if config.warm_start:
            for name in ("vae", "unet", "vre", "position_map"):
                load_component(self.network.get_submodule(name), config.warm_start / f"{name}.safetensors")
        freeze_all_but(self.network, ("unet.", "position_map.", "vre.projection.", "vae.refine."))
        self.dataset = RestorationDataset(load_faces(config.data, "train"), config.presets, config.seed)
        self.features = VGG16FeatureDistance(config.vgg16)
        self.held_out = held_out_samples(RestorationDataset(load_faces(config.data, "val"), ["vqfr-v2"], 1), 24)

    def losses(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        network = self.network
        truth, lq = (batch[key].to(memory_format=torch.channels_last) for key in ("truth", "lq"))
        with torch.no_grad():
            latent, target = network.vae.encode(torch.cat([lq, truth])).chunk(2)
        restored = network.predict(latent, visual_prompt(network, lq))
        return restoration_losses(network, restored, target, truth, self.features, self.config, step)

    def validate(self) -> Mapping[str, float]:
        truth, lq = self.held_out["truth"], self.held_out["lq"]
        restored = torch.cat([self.network(image[None]).restored for image in lq])
        return {
            "psnr_input": float(psnr(lq, truth).mean()),
            "psnr": float(psnr(restored, truth).mean()),
            "features_input": float(self.features(lq[:8], truth[:8])),
            "features": float(self.features(restored[:8], truth[:8])),
        }

    def pictures(self) -> Tensor:
        lq, truth = self.held_out["lq"][:6], self.held_out["truth"][:6]
        return sheet([list(lq), [self.network(image[None]).restored[0] for image in lq], list(truth)])

    def export(self, folder: Path) -> None:
        save_components(self.network, folder)


def freeze_all_but(network: nn.Module, prefixes: tuple[str, ...]) -> None:
    """Train only the parameters whose names begin with one of the prefixes."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(prefixes))


def visual_prompt(network: HonestFace, lq: Tensor) -> Tensor:
    """The VRE's prompt with gradients to its projection alone."""
    with torch.no_grad():
        tokens, _ = network.vre.select_tokens(network.vre.encode(lq).float())
    prompt: Tensor = network.vre.projection(tokens)
    return prompt


def restoration_losses(
    network: HonestFace,
    restored: Tensor,
    target: Tensor,
    truth: Tensor,
    features: VGG16FeatureDistance,
    config: BaselineConfig,
    step: int,
) -> dict[str, Tensor]:
    """Losses of restored latents `[B, C, 64, 64]` against target latents, and of a decoded square against the truth."""
    losses: dict[str, Tensor] = {}
    scales = network.vae.channel_scales if isinstance(network.vae, PixelUnshuffleAutoencoder) else 1.0
    losses["latent"] = config.latent_weight * ((restored - target) * scales).abs().mean()
    cells = config.decoded_cells
    top, left = torch.randint(0, restored.shape[-1] - cells + 1, (2,)).tolist()
    decoded = network.vae.decode(restored[:, :, top : top + cells, left : left + cells])
    y, x, side = top * CELL, left * CELL, cells * CELL
    square = truth[:, :, y : y + side, x : x + side]
    losses["pixels"] = config.pixel_weight * (decoded - square).abs().mean()
    if step % config.feature_every == 0:
        part = config.feature_side
        v, u = torch.randint(0, side - part + 1, (2,)).tolist()
        pair = [image[:, :, v : v + part, u : u + part] for image in (decoded, square)]
        losses["features"] = config.feature_weight * config.feature_every * features(*pair)
    return losses
