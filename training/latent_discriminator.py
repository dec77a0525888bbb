"""The latent discriminator (Eq. 5, after OSDFace): the encoder half of a diffusion UNet judges noised latents."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from models.lora import add_adapters
from models.one_step_diffusion import OneStepDiffusion
from models.position_map import PositionMap
from models.tiny_unet import TinyUNet


class UNetEncoder(nn.Module):
    """A copy of the down and middle blocks of a diffusers UNet2DConditionModel; `width` is the middle's."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        for name in ("conv_in", "time_proj", "time_embedding", "down_blocks", "mid_block"):
            self.add_module(name, copy.deepcopy(unet.get_submodule(name)))
        self.width: int = unet.config.block_out_channels[-1]

    def forward(self, sample: Tensor, timesteps: Tensor, prompt: Tensor) -> Tensor:
        """The middle block's features `[B, C, h, w]` of latents under a prompt `[B, n, k]` at `timesteps` `[B]`."""
        frequencies: Tensor = self.get_submodule("time_proj")(timesteps)
        embedded = self.get_submodule("time_embedding")(frequencies.to(sample.dtype))
        x = self.get_submodule("conv_in")(sample)
        for block in (*self.get_submodule("down_blocks").children(), self.get_submodule("mid_block")):
            condition = {"encoder_hidden_states": prompt} if getattr(block, "has_cross_attention", False) else {}
            x = block(x, embedded, **condition)
            x = x[0] if isinstance(x, tuple) else x
        features: Tensor = x
        return features


class TinyUNetEncoder(nn.Module):
    """A copy of the tiny UNet's way down; how noisy a latent is, it sees for itself."""

    def __init__(self, unet: TinyUNet) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(unet.encoder)
        self.width = unet.config.widths[-1]

    def forward(self, sample: Tensor, timesteps: Tensor, prompt: Tensor) -> Tensor:
        """As `UNetEncoder`."""
        features: Tensor = self.encoder(sample, prompt)[0]
        return features


class LatentDiscriminator(nn.Module):
    """Scores (logits) `[B]` of latents: are they of a photograph, or restored?

    The UNet's encoder half carries LoRA of rank `rank` (0 trains all of it, for a UNet that knows nothing yet); an MLP
    judges its pooled middle block. `position_map` joins the latent as in the generator, if that has one.
    """

    def __init__(
        self, unet: Any, diffusion: OneStepDiffusion, rank: int, position_map: PositionMap | None = None
    ) -> None:
        super().__init__()
        self.encoder = TinyUNetEncoder(unet) if isinstance(unet, TinyUNet) else UNetEncoder(unet)
        self.position_map = copy.deepcopy(position_map)
        self.diffusion = diffusion
        if rank:
            add_adapters(self.encoder, rank, rank)
            if self.position_map is not None:
                self.position_map.requires_grad_(False)
        else:
            self.requires_grad_(True)
        width = self.encoder.width
        self.head = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))

    def forward(self, latents: Tensor, prompt: Tensor, corner: tuple[int, int] = (0, 0)) -> Tensor:
        """D(F(z, t)) of clean latents z `[B, C, h, w]`, with t ~ U[0, T) and noise of its own for each.

        `corner` (row, column) is where they lie in the aligned frame.
        """
        timesteps = torch.randint(self.diffusion.config.steps, (len(latents),)).to(latents.device)
        noised = self.diffusion.diffuse(latents, timesteps, torch.randn_like(latents))
        sample = noised if self.position_map is None else self.position_map(noised, corner)
        scores: Tensor = self.head(self.encoder(sample, timesteps, prompt).mean((2, 3)))[:, 0]
        return scores
