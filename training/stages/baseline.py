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
from training.adversary import restoration_adversary
from training.components import load_component, save_generator
from training.faces import load_faces
from training.frozen_face_tools import frozen_face_tools
from training.images import psnr, sheet
from training.onnx_recogniser import OnnxRecogniser
from training.perceptual_distance import perceptual_distance
from training.restoration import (
    RestorationConfig,
    adapt,
    freeze_all_but,
    inherited,
    keep_less,
    visual_prompt,
    without_adapters,
)
from training.restoration_data import RestorationDataset, held_out_samples
from training.restoration_stage import Given, RestorationStage
from training.stage import Batch, on_device


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

    @model_validator(mode="after")
    def _who_looks_at_identities_is_there(self) -> Self:
        if self.identity_weight and not (self.identity or self.face_tools or self.recognisers):
            raise ValueError("identity_weight needs a recogniser: set identity, face_tools or recognisers")
        return self


class BaselineStage(RestorationStage):
    """What both restoration stages learn from; the recognisers of Eq. 8 may be the identity run's and others."""

    config: BaselineConfig

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
        self.features = perceptual_distance(config.perceptual)
        tools = frozen_face_tools(config.face_tools, None, config.identity)
        recognisers = [OnnxRecogniser(recogniser) for recogniser in config.recognisers]
        self.encoders = [*([tools.identity_encoder] if tools.identity_encoder else []), *recognisers]
        self.teachers = nn.ModuleList([self.features, tools.networks, *recognisers])
        self.adversary = restoration_adversary(config, self.network, self.features)
        freeze_all_but(self.network, ("unet.", "position_map.", "vre.projection."))
        if config.lora_rank:
            adapt(self.network.unet, config.lora_rank)
        if config.checkpointing:
            keep_less(self.network)
        faces, held_out = (load_faces(config.data, split, config.held_out_people) for split in ("train", "val"))
        self.dataset = RestorationDataset(faces, config.presets, config.seed)
        self.held_out = held_out_samples(RestorationDataset(held_out, ["vqfr-v2"], 1), 24)

    def given(self, truth: Tensor, lq: Tensor, batch: Batch) -> Given:
        latent, target = self.latents(truth, lq)
        return Given(latent, target, truth, visual_prompt(self.network, lq))

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
