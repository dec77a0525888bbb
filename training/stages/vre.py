"""The VRE's dictionary (OSDFace stage 1): VQ-VAEs of sharp and of degraded faces, then their tokens are associated."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from models.choices import ProfileName
from models.profiles import PROFILES
from models.visual_representation_embedder import VisualRepresentationEmbedder, VREConfig
from models.vqgan import Decoder
from training.adversary import AdversarialConfig, Adversary, Case
from training.components import save_component
from training.faces import load_faces
from training.images import psnr, sheet
from training.patch_discriminator import PatchDiscriminator
from training.perceptual_distance import PerceptualConfig, perceptual_distance
from training.restoration_data import RestorationDataset, held_out_samples
from training.stage import Batch, Presets, Stage, Weight, on_device

#: Share of its running mean that a code keeps at each step, and the use in embeddings a step below which it is moved.
_DECAY, _RARE = 0.95, 0.02


class VREStageConfig(AdversarialConfig):
    profile: ProfileName = "tiny"
    presets: Presets = ("vqfr-v2", "wide")
    beta: float = 0.25
    """Weight of the commitment of the encoder to its codes."""
    association_from: int = Field(ge=0)
    """The step from which HQ and LQ tokens are associated."""
    association_weight: Weight = 0.1
    decoder_blocks: int = Field(1, ge=1)
    """Residual blocks a level of the decoders, which only training needs."""
    perceptual: PerceptualConfig | None = None
    """A distance of what the dictionaries reconstruct, beside L1 (OSDFace: LPIPS)."""
    perceptual_weight: Weight = 1.0
    pixel_gan_weight: Weight = 0.0
    """Of a PatchGAN against each dictionary; 0 leaves them out."""
    pixel_gan_width: int = Field(32, ge=1)


class VQVAE(nn.Module):
    """An embedder's encoder and dictionary with a decoder behind; what is exported is the embedder."""

    def __init__(self, config: VREConfig, decoder_blocks: int = 1) -> None:
        super().__init__()
        self.embedder = VisualRepresentationEmbedder(config)
        self.embedder.projection.requires_grad_(False)
        self.post_quant_conv = nn.Conv2d(config.embedding_width, config.embedding_width, 1)
        self.decoder = Decoder(
            resolution=config.image_size,
            channels=config.channels,
            multipliers=config.multipliers,
            residual_blocks=decoder_blocks - 1,
            attention_resolutions=(),
            width=config.embedding_width,
            groups=config.groups,
        )
        self.register_buffer("usage", torch.zeros(config.codebook_size))
        self.register_buffer("sums", torch.zeros(config.codebook_size, config.embedding_width))
        self.usage: Tensor
        self.sums: Tensor

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Reconstruction, embeddings `[B, P, D]`, their codes `[B, P, D]` and code indices `[B, P]`."""
        embeddings = self.embedder.encode(images).float()
        codes, indices = self.embedder.quantise(embeddings)
        passed = embeddings + (codes - embeddings).detach()  # straight-through
        side = math.isqrt(passed.shape[1])
        grid = passed.transpose(1, 2).reshape(len(passed), -1, side, side)
        return self.decoder(self.post_quant_conv(grid)), embeddings, codes, indices

    @torch.no_grad()
    def learn_codes(self, embeddings: Tensor, indices: Tensor) -> None:
        """Move every code to the running mean of the embeddings it stands for, a hardly used one onto an embedding.

        This is the codebook loss solved in closed form; by gradient the codes did not keep up with the encoder.
        """
        found = embeddings.flatten(0, 1)
        places = indices.flatten()
        counts = torch.bincount(places, minlength=len(self.usage)).to(found.dtype)
        sums = torch.zeros_like(self.sums).index_add(0, places, found)
        codes = self.embedder.quantize.embedding.weight
        strangers = found[torch.randint(len(found), (len(codes),)).to(found.device)]
        if torch.distributed.is_initialized():  # one dictionary for all processes
            torch.distributed.all_reduce(counts)
            torch.distributed.all_reduce(sums)
            torch.distributed.broadcast(strangers, 0)
        self.usage.lerp_(counts, 1 - _DECAY)
        self.sums.lerp_(sums, 1 - _DECAY)
        unused = self.usage < _RARE
        self.usage.masked_fill_(unused, 1.0)
        self.sums.copy_(torch.where(unused[:, None], strangers, self.sums))
        codes.copy_(self.sums / self.usage[:, None])


class DictionaryPair(nn.Module):
    """The HQ and the LQ dictionary and the association's temperature, from ln(1/0.07)."""

    def __init__(self, config: VREConfig, decoder_blocks: int) -> None:
        super().__init__()
        self.hq, self.lq = VQVAE(config, decoder_blocks), VQVAE(config, decoder_blocks)
        self.temperature = nn.Parameter(torch.tensor(math.log(1 / 0.07)))


def association_loss(hq: Tensor, lq: Tensor, temperature: Tensor) -> Tensor:
    """CLIP's symmetric cross-entropy between tokens `[B, P, D]` of the same place, over all positions of an image."""
    similarity = temperature.exp().clamp(max=100) * F.normalize(hq, dim=-1) @ F.normalize(lq, dim=-1).transpose(1, 2)
    labels = torch.arange(similarity.shape[1], device=similarity.device).expand(similarity.shape[:2])
    return (F.cross_entropy(similarity, labels) + F.cross_entropy(similarity.transpose(1, 2), labels)) / 2


class VREStage(Stage):
    """L1, perceptual, adversarial and codebook losses of both dictionaries; from `association_from` on the association
    as well."""

    network: DictionaryPair
    adversary: Adversary | None = None

    def __init__(self, config: VREStageConfig) -> None:
        self.config = config
        self.network = DictionaryPair(PROFILES[config.profile].vre, config.decoder_blocks)
        self.perceptual = self.teachers = perceptual_distance(config.perceptual) if config.perceptual else None
        if config.pixel_gan_weight:
            discriminators = {name: PatchDiscriminator(config.pixel_gan_width) for name in ("hq", "lq")}
            self.adversary = Adversary(discriminators, dict.fromkeys(discriminators, config.pixel_gan_weight), config)
        self.dataset = RestorationDataset(
            load_faces(config.data, "train", config.held_out_people), config.presets, config.seed
        )
        held_out = RestorationDataset(
            load_faces(config.data, "val", config.held_out_people), config.presets, config.seed
        )
        self.held_out = held_out_samples(held_out, 16)

    def written(self) -> list[Tensor]:
        """The codes too: no gradient moves them."""
        return [*super().written(), *(part.embedder.codebook for part in (self.network.hq, self.network.lq))]

    def losses(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        losses: dict[str, Tensor] = {}
        embeddings, cases = {}, {}
        for name, network in (("hq", self.network.hq), ("lq", self.network.lq)):
            image = network.embedder.resize(batch["truth" if name == "hq" else "lq"])
            restored, found, codes, indices = network(image)
            embeddings[name] = found
            losses[f"{name}_l1"] = (restored - image).abs().mean()
            cases[name] = Case(restored, image)
            if self.perceptual is not None:
                losses[f"{name}_perceptual"] = self.config.perceptual_weight * self.perceptual(restored, image)
            losses[f"{name}_codes"] = self.config.beta * F.mse_loss(found, codes.detach())
            if network.training:
                network.learn_codes(found.detach(), indices)
        if step >= self.config.association_from:
            loss = association_loss(embeddings["hq"], embeddings["lq"], self.network.temperature)
            losses["association"] = self.config.association_weight * loss
        if self.adversary is not None:
            losses |= self.adversary.judge(cases, step)
        return losses

    def validate(self) -> Mapping[str, float]:
        network = self.network.lq
        held_out = on_device(self.held_out, self.device)
        image = network.embedder.resize(held_out["lq"])
        restored, _, _, indices = network(image)
        tokens = network.embedder.select_tokens(network.embedder.encode(held_out["lq"]))[1]
        hq = self.network.hq.embedder.resize(held_out["truth"])
        return {
            "psnr_lq": float(psnr(restored, image).mean()),
            "psnr_hq": float(psnr(self.network.hq(hq)[0], hq).mean()),
            "codes_used": float(len(indices.unique())),
            "tokens": float((tokens >= 0).sum(1).float().mean()),
        }

    def pictures(self) -> Tensor:
        rows = []
        for name, network in (("truth", self.network.hq), ("lq", self.network.lq)):
            images = network.embedder.resize(self.held_out[name][:6].to(self.device))
            rows += [list(images), list(network(images)[0])]
        return sheet(rows)

    def export(self, folder: Path) -> None:
        save_component(self.network.lq.embedder, folder / "vre.safetensors")
