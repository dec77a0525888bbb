"""The blind one-step model: UNet (whole or LoRA), position map and VRE projection; VAE and dictionary frozen."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

import torch
from pydantic import model_validator
from torch import Tensor, nn

from models.bundle import load_exactly
from models.diffusers_folder import read_unet, read_vae
from models.honestface import HonestFace, HonestFaceConfig
from models.profiles import PROFILES
from training.adversary import Adversary, restoration_adversary, restoration_cases
from training.components import load_component, save_generator
from training.faces import load_faces
from training.images import psnr, sheet
from training.restoration import (
    RestorationConfig,
    adapt,
    chosen_distance,
    freeze_all_but,
    inherited,
    keep_less,
    mean_losses,
    restoration_losses,
    visual_prompt,
    without_adapters,
)
from training.restoration_data import RestorationDataset, held_out_samples
from training.squares import cut, decode_square, in_pixels, random_corner
from training.stage import Batch, Stage, on_device


class BaselineConfig(RestorationConfig):
    base_model: Path | None = None
    """Stable Diffusion 2.1-base in diffusers' layout: its UNet and VAE to begin with (sd21)."""
    vae: Path | None = None
    """The autoencoder to begin with, where it is not the base model's."""
    vre: Path

    @model_validator(mode="after")
    def _an_autoencoder_is_there(self) -> Self:
        """It is frozen: random weights would stay random."""
        if not (self.vae or self.base_model or self.warm_start):
            raise ValueError("an autoencoder is needed: set vae, base_model or warm_start")
        return self


class BaselineStage(Stage):
    """`restoration_losses` of random squares of each face, and what discriminators of the settings add.

    That is L1 and what repeats from patch to patch on latents; L1 or MSE, seams and spectrum on the decoded square; a
    perceptual distance of any kind and texture on part of it, every `feature_every` steps.
    """

    network: HonestFace
    adversary: Adversary | None = None

    def __init__(self, config: BaselineConfig) -> None:
        self.config = config
        self.network = HonestFace(self._shape())
        if config.base_model:
            load_exactly(self.network.unet, read_unet(config.base_model)[1].state_dict(), "the base model's UNet")
            load_exactly(self.network.vae, read_vae(config.base_model)[1].state_dict(), "the base model's VAE")
        else:
            nn.init.zeros_(self.network.unet.conv_out.weight)  # start by restoring nothing
            nn.init.zeros_(self.network.unet.conv_out.bias)
        if config.vae:
            load_component(self.network.vae, config.vae)
        load_component(self.network.vre, config.vre)
        if config.warm_start:
            for name in inherited(self.network):
                load_component(self.network.get_submodule(name), config.warm_start / f"{name}.safetensors")
        self.features = self.teachers = chosen_distance(config)
        self.adversary = restoration_adversary(config, self.network, self.features)
        freeze_all_but(self.network, ("unet.", "position_map.", "vre.projection."))
        if config.lora_rank:
            adapt(self.network.unet, config.lora_rank)
        if config.checkpointing:
            keep_less(self.network)
        faces, held_out = (load_faces(config.data, split, config.held_out_people) for split in ("train", "val"))
        self.dataset = RestorationDataset(faces, config.presets, config.seed)
        self.held_out = held_out_samples(RestorationDataset(held_out, ["vqfr-v2"], 1), 24)

    def losses(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        network = self.network
        truth, lq = (batch[key].to(memory_format=torch.channels_last) for key in ("truth", "lq"))
        with torch.no_grad():
            latent, target = network.vae.encode(torch.cat([lq, truth])).chunk(2)
        prompt = visual_prompt(network, lq)
        squares = [self._square(latent, target, truth, prompt, step) for _ in range(self.config.squares)]
        return mean_losses(squares)

    def _square(self, latent: Tensor, target: Tensor, truth: Tensor, prompt: Tensor, step: int) -> dict[str, Tensor]:
        """Losses of a random square of each face."""
        network = self.network
        cells = self.config.crop_side // network.vae.patch
        corner = random_corner(latent, cells)
        latent, target = (cut(part, corner, cells) for part in (latent, target))
        place = in_pixels(network, corner)
        truth = cut(truth, place, self.config.crop_side)
        restored = network.predict(latent, prompt, corner=corner)
        decoded = decode_square(network, restored, truth, self.config.decoded_side, place)
        losses = restoration_losses(restored, target, decoded, self.features, self.config, step)
        if self.adversary is not None:
            cases = restoration_cases((restored, target), prompt, corner, decoded, self.config)
            losses |= self.adversary.judge(cases, step)
        return losses

    def validate(self) -> Mapping[str, float]:
        held_out = on_device(self.held_out, self.device)
        truth, lq = held_out["truth"], held_out["lq"]
        restored = torch.cat([self.network(image[None]).restored for image in lq])
        return {
            "psnr_input": float(psnr(lq, truth).mean()),
            "psnr": float(psnr(restored, truth).mean()),
            "features_input": float(self.features(lq[:8], truth[:8])),
            "features": float(self.features(restored[:8], truth[:8])),
        }

    def pictures(self) -> Tensor:
        lq, truth = self.held_out["lq"][:6].to(self.device), self.held_out["truth"][:6]
        return sheet([list(lq), [self.network(image[None]).restored[0] for image in lq], list(truth)])

    def export(self, folder: Path) -> None:
        save_generator(without_adapters(self.network, self._shape()), self.config.profile, folder)

    def _shape(self) -> HonestFaceConfig:
        return replace(PROFILES[self.config.profile], identity_embedder=None, reference_adapter=None)
