"""The reference-conditioned model: LoRA r=16 on the baseline's UNet, identity embedder and reference adapter."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from models.face_analyzer import Landmarks
from models.honestface import HonestFace
from models.identity_embedder import IdentityEmbedder
from models.identity_network import EmbeddedIdentityEncoder, IdentityNetwork, IdentityNetworkConfig
from models.landmark_network import HeatmapLandmarkDetector, LandmarkNetwork, LandmarkNetworkConfig
from models.lora import adapter_state, add_adapters, merge_lora
from models.profiles import TINY
from models.references import References
from training.adversary import Adversary, adversarial
from training.components import load_component, save_components
from training.faces import load_faces
from training.identity_loss import identity_loss
from training.images import psnr, sheet
from training.masked_face_alignment import attention_mask, masked_distance
from training.onnx_recogniser import OnnxRecogniser, RecogniserConfig
from training.perceptual_distance import PerceptualConfig, perceptual_distance
from training.restoration_data import RestorationDataset, held_out_samples
from training.stage import Batch, Stage, on_device
from training.stages.baseline import (
    CELL,
    BaselineConfig,
    DecodedSquare,
    chosen_distance,
    cut,
    decode_square,
    freeze_all_but,
    latent_loss,
    random_corner,
    restoration_losses,
    visual_prompt,
)

#: The parts of the generator that the baseline hands over.
INHERITED = ("vae", "unet", "vre", "position_map")


class HonestFaceStageConfig(BaselineConfig):
    baseline: Path
    """Folder with the baseline's components."""
    landmarks: Path
    identity: Path
    recognisers: tuple[RecogniserConfig, ...] = ()
    """Recognisers f_i of Eq. 8 beside the profile's own identity encoder."""
    references: int = 2
    reference_dropout: float = 0.2
    wrong_person: float = 0.1
    """Share of samples with a stranger's picture as reference, so that the gate learns to stay shut."""
    identity_weight: float = 0.3
    mfa_weight: float = 0.1
    mfa_distance: PerceptualConfig | None = None
    """The paper: LPIPS. By default what the whole picture is compared with."""
    mfa_every: int = 4
    """How often MFA is measured on the decoded square; its weight makes up for the steps between."""
    face_every: int = 4
    """How often whole faces are restored for the identity loss; the steps between see squares of `crop_cells`."""
    face_batch: int = 4
    """Whole faces of such a step."""


class HonestFaceStage(Stage):
    """The baseline's losses and MFA (Eq. 13) on squares, and every `face_every` steps Eq. 8 on whole faces."""

    def __init__(self, config: HonestFaceStageConfig) -> None:
        self.config = config
        self.network = HonestFace(TINY)
        for name in INHERITED:
            load_component(self.network.get_submodule(name), config.baseline / f"{name}.safetensors")
        if config.warm_start:
            for name in ("identity_embedder", "reference_adapter"):
                load_component(self.network.get_submodule(name), config.warm_start / f"{name}.safetensors")
        self.adversary = Adversary(config, self.network) if adversarial(config) else None
        add_adapters(self.network.unet)
        freeze_all_but(self.network, ("identity_embedder.", "reference_adapter.", "vre.projection.", "vae.refine."))
        for name, parameter in self.network.unet.named_parameters():
            parameter.requires_grad_(".lora_" in name)
        landmarks, identity = LandmarkNetwork(LandmarkNetworkConfig()), IdentityNetwork(IdentityNetworkConfig())
        load_component(landmarks, config.landmarks)
        load_component(identity, config.identity)
        self.landmark_detector = HeatmapLandmarkDetector(landmarks.requires_grad_(False), "landmarks")
        self.identity_encoder = EmbeddedIdentityEncoder(identity.requires_grad_(False), "identity")
        self.dataset = RestorationDataset(
            load_faces(config.data, "train"),
            config.presets,
            config.seed,
            config.references,
            config.reference_dropout,
            config.wrong_person,
        )
        self.recognisers = [OnnxRecogniser(recogniser) for recogniser in config.recognisers]
        self.features = chosen_distance(config)
        self.mfa_distance = perceptual_distance(config.mfa_distance) if config.mfa_distance else self.features
        self.teachers = nn.ModuleList([self.features, self.mfa_distance, landmarks, identity, *self.recognisers])
        held_out = RestorationDataset(load_faces(config.data, "val"), ["vqfr-v2"], 1, config.references, 0.0)
        self.held_out = held_out_samples(held_out, 24)

    def losses(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        network, config = self.network, self.config
        whole = step % config.face_every == config.face_every - 1
        if whole:
            batch = {key: value[: config.face_batch] for key, value in batch.items()}
        truth, lq = (batch[key].to(memory_format=torch.channels_last) for key in ("truth", "lq"))
        with torch.no_grad():
            latent, target = network.vae.encode(torch.cat([lq, truth])).chunk(2)
            references, marks, who = self.condition(batch)
        prompt, seen = visual_prompt(network, lq), None
        if references is not None:
            person = cast(IdentityEmbedder, network.identity_embedder)(marks.points, references)
            prompt = network.fusion(prompt, person)
            seen = network.see(person, references, marks.points, who)
        cells = latent.shape[-1] if whole else config.crop_cells
        corner = random_corner(latent, cells)
        latent, target = cut(latent, corner, cells), cut(target, corner, cells)
        if seen is not None:
            seen = replace(seen, latent=cut(seen.latent, corner, cells))
        restored = network.predict(latent, prompt, network.steer(latent, seen), corner)
        truth = cut(truth, (corner[0] * CELL, corner[1] * CELL), cells * CELL)
        if whole:
            decoded = DecodedSquare(network.vae.decode(restored), truth, (0, 0))
            losses = {
                "latent": config.latent_weight * latent_loss(network, restored, target),
                "identity": self._identity_loss(decoded.restored, truth),
            }
        else:
            decoded = decode_square(network, restored, truth, config.decoded_cells)
            losses = restoration_losses(network, restored, target, decoded, self.features, config, step)
        if self.adversary is not None:
            pixels = decoded.part(config.decoded_cells * CELL)
            losses |= self.adversary.judge(restored, target, prompt, *pixels, step, corner)
        if not whole and step % config.mfa_every == 1:
            mask = attention_mask(marks.heatmaps, lq.shape[-1])
            place = (corner[0] * CELL + decoded.corner[0], corner[1] * CELL + decoded.corner[1])
            mask = cut(mask, place, decoded.truth.shape[-1])
            distance = masked_distance(decoded.restored, decoded.truth, mask, self.mfa_distance)
            losses["mfa"] = config.mfa_every * config.mfa_weight * distance
        return losses

    def adversary_losses(self, step: int) -> Mapping[str, Tensor]:
        assert self.adversary is not None
        return self.adversary.losses(step)

    def _identity_loss(self, restored: Tensor, truth: Tensor) -> Tensor:
        """Eq. 8 of whole faces; its weight makes up for the steps between."""
        loss = identity_loss(restored.float(), truth, [self.identity_encoder, *self.recognisers])
        return self.config.face_every * self.config.identity_weight * loss

    def condition(self, batch: Batch) -> tuple[References | None, Landmarks, Tensor]:
        """Packed references of a batch, and landmarks and identity as the face tools see them in the input."""
        marks = self.landmark_detector.landmarks(batch["lq"])
        who = self.identity_encoder.embed(batch["lq"])
        rows = batch["reference_present"].nonzero()
        if not len(rows):
            return None, marks, who
        owner, slot = rows[:, 0], rows[:, 1]
        images = batch["reference_images"][owner, slot]
        points = batch["reference_landmarks"][owner, slot]
        return References(images, points, self.identity_encoder.embed(images), owner, len(batch["lq"])), marks, who

    def validate(self) -> Mapping[str, float]:
        truth = self.held_out["truth"].to(self.device)
        figures = {"psnr_input": float(psnr(self.held_out["lq"], self.held_out["truth"]).mean())}
        who = self.identity_encoder.embed(truth)
        for name, mode in (("blind", "none"), ("referenced", "own"), ("wrong", "wrong")):
            restored = self._restore(mode)
            figures[f"psnr_{name}"] = float(psnr(restored, truth).mean())
            figures[f"features_{name}"] = float(self.features(restored[:8], truth[:8]))
            cosines = (self.identity_encoder.embed(restored) * who).sum(1).clamp(-1, 1)
            figures[f"angle_{name}"] = float(torch.rad2deg(cosines.acos()).mean())
        return figures

    def pictures(self) -> Tensor:
        truth, lq = self.held_out["truth"][:6], self.held_out["lq"][:6]
        references = self.held_out["reference_images"][:6, 0]
        return sheet(
            [list(lq), list(self._restore("none", 6)), list(self._restore("own", 6)), list(references), list(truth)]
        )

    def export(self, folder: Path) -> None:
        merged = HonestFace(TINY)
        for name in INHERITED:
            load_component(merged.get_submodule(name), self.config.baseline / f"{name}.safetensors")
        for name in ("identity_embedder", "reference_adapter", "vre", "vae"):
            merged.get_submodule(name).load_state_dict(self.network.get_submodule(name).state_dict())
        merge_lora(merged.unet, adapter_state(self.network.unet))
        save_components(merged, folder)

    def _restore(self, mode: str, count: int = 24) -> Tensor:
        """Held-out inputs restored without references, with the person's own, or with the next sample's."""
        restored = []
        for index in range(min(count, len(self.held_out["lq"]))):
            sample = {key: value[index : index + 1] for key, value in self.held_out.items()}
            if mode == "wrong":
                other = (index + 1) % len(self.held_out["lq"])
                sample |= {k: v[other : other + 1] for k, v in self.held_out.items() if k.startswith("reference")}
            sample = on_device(sample, self.device)
            references, marks, who = self.condition(sample)
            chosen = None if mode == "none" else references
            restored.append(self.network(sample["lq"], chosen, marks.points, who).restored.float())
        return torch.cat(restored)
