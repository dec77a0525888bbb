"""The reference-conditioned model: LoRA r=16 on the UNet (or all of it), identity embedder and reference adapter."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from models.bundle import load_exactly
from models.errors import HonestFaceError
from models.face_analyzer import IdentityEncoder, LandmarkDetector, Landmarks
from models.foreign_weights import read_weights
from models.honestface import HonestFace, HonestFaceConfig
from models.identity_embedder import IdentityEmbedder
from models.profiles import PROFILES
from models.references import References
from training.adversary import restoration_adversary
from training.components import load_component, save_generator
from training.faces import load_faces
from training.frozen_face_tools import frozen_face_tools
from training.images import psnr, sheet
from training.masked_face_alignment import attention_mask, masked_distance
from training.onnx_recogniser import OnnxRecogniser
from training.perceptual_distance import PerceptualConfig, perceptual_distance
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
from training.squares import DecodedSquare, cut
from training.stage import Batch, Weight, on_device


class HonestFaceStageConfig(RestorationConfig):
    baseline: Path
    """Folder with the blind model's components: a finished baseline run, or a bundle such as OSDFace's."""
    landmarks: Path | None = None
    lora_rank: int = Field(16, ge=0)
    eye_features: Path | None = None
    """VGG16 as torchvision names it, for the facial feature extractor's first layers, which then stay as they are."""
    ffe: bool = True
    """Facial feature extractor; off in the ablation of Table 3c."""
    fie: bool = True
    """Face identity encoder; off in the ablation of Table 3c."""
    references: int = Field(2, ge=1)
    reference_dropout: float = Field(0.2, ge=0, le=1)
    """Share of samples without references."""
    wrong_person: float = Field(0.1, ge=0, le=1)
    """Share of the other samples with a stranger's picture as reference, so that the gate learns to stay shut."""
    identity_weight: Weight = 0.3
    mfa_weight: Weight = 0.1
    mfa_distance: PerceptualConfig | None = None
    """The paper: LPIPS. By default what the whole picture is compared with."""
    mfa_heatmap: bool = True
    """Whether MFA looks where people look (Eq. 10-11); off in the ablation of Table 3b."""
    mfa_every: int = Field(4, ge=1)
    """How often MFA is measured on the decoded square; its weight makes up for the steps between. A multiple of
    `face_every`, so that it is never due on a whole face, unless all steps see these."""

    @model_validator(mode="after")
    def _mfa_is_never_due_on_a_whole_face(self) -> Self:
        if self.mfa_weight and self.identity_weight and self.mfa_every % self.face_every:
            raise ValueError(f"mfa_every is {self.mfa_every}, must be a multiple of face_every ({self.face_every})")
        return self


class HonestFaceStage(RestorationStage):
    """What both restoration stages learn from, with references; and MFA (Eq. 13) on squares."""

    config: HonestFaceStageConfig
    landmark_detector: LandmarkDetector
    identity_encoder: IdentityEncoder

    def __init__(self, config: HonestFaceStageConfig) -> None:
        self.config = config
        tools = frozen_face_tools(config.face_tools, config.landmarks, config.identity)
        if tools.landmark_detector is None or tools.identity_encoder is None:
            raise HonestFaceError("face tools are needed: set landmarks and identity, or face_tools")
        self.landmark_detector, self.identity_encoder = tools.landmark_detector, tools.identity_encoder
        self.network = HonestFace(self._shape())
        for name in inherited(self.network):
            load_component(self.network.get_submodule(name), config.baseline / f"{name}.safetensors")
        if config.warm_start:
            for name in ("identity_embedder", "reference_adapter"):
                if getattr(self.network, name) is not None:
                    load_component(self.network.get_submodule(name), config.warm_start / f"{name}.safetensors")
        self.features = perceptual_distance(config.perceptual)
        self.adversary = restoration_adversary(config, self.network, self.features)
        trained = ("identity_embedder.", "reference_adapter.", "vre.projection.")
        if config.lora_rank:
            freeze_all_but(self.network, trained)
            adapt(self.network.unet, config.lora_rank)
        else:
            freeze_all_but(self.network, (*trained, "unet.", "position_map."))
        if config.eye_features:
            self._take_eye_features(config.eye_features)
        if config.checkpointing:
            keep_less(self.network)
        faces, kept = (load_faces(config.data, split, config.held_out_people) for split in ("train", "val"))
        self.dataset = RestorationDataset(
            faces,
            config.presets,
            config.seed,
            config.references,
            config.reference_dropout,
            config.wrong_person,
        )
        recognisers = [OnnxRecogniser(recogniser) for recogniser in config.recognisers]
        self.encoders = [self.identity_encoder, *recognisers]
        self.mfa_distance = perceptual_distance(config.mfa_distance) if config.mfa_distance else self.features
        self.teachers = nn.ModuleList([self.features, self.mfa_distance, tools.networks, *recognisers])
        held_out = RestorationDataset(kept, ["vqfr-v2"], 1, config.references, 0.0, loners=False)
        self.held_out = held_out_samples(held_out, 24)

    def given(self, truth: Tensor, lq: Tensor, batch: Batch) -> Given:
        network = self.network
        latent, target = self.latents(truth, lq)
        with torch.no_grad():
            references, marks, who = self.condition(batch)
        prompt, seen = visual_prompt(network, lq), None
        if references is not None:
            person = cast(IdentityEmbedder, network.identity_embedder)(marks.points, references)
            prompt = network.fusion(prompt, person)
            seen = network.see(latent, person, references, marks.points, who)
        return Given(latent, target, truth, prompt, seen, marks.heatmaps)

    def further_losses(self, decoded: DecodedSquare, given: Given, step: int) -> Mapping[str, Tensor]:
        config = self.config
        if not config.mfa_weight or step % config.mfa_every:
            return {}
        assert given.heatmaps is not None  # those of this stage always have some
        mask = attention_mask(given.heatmaps, given.truth.shape[-1])
        mask = cut(mask, decoded.corner, decoded.truth.shape[-1])
        mask = mask if config.mfa_heatmap else torch.ones_like(mask)
        distance = masked_distance(decoded.restored, decoded.truth, mask, self.mfa_distance)
        return {"mfa": config.mfa_every * config.mfa_weight * distance}

    def condition(self, batch: Batch) -> tuple[References | None, Landmarks, Tensor]:
        """Packed references of a batch, and landmarks and identity of the input, all as the face tools see them."""
        marks = self.landmark_detector.landmarks(batch["lq"])
        who = self.identity_encoder.embed(batch["lq"])
        rows = batch["reference_present"].nonzero()
        if not len(rows):
            return None, marks, who
        owner, slot = rows[:, 0], rows[:, 1]
        images = batch["reference_images"][owner, slot]
        points = self.landmark_detector.landmarks(images).points
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
        save_generator(without_adapters(self.network, self._shape()), self.config.profile, folder)

    def _shape(self) -> HonestFaceConfig:
        """The profile's, with the identity encoder's width and without the parts that an ablation leaves out."""
        shape = PROFILES[self.config.profile]
        embedder = shape.identity_embedder
        if embedder is None or embedder.encoder is None or not (self.config.ffe or self.config.fie):
            raise HonestFaceError("references need the facial feature extractor (ffe) or the identity encoder (fie)")
        encoder = replace(embedder.encoder, identity_width=self.identity_encoder.width)
        extractor = embedder.extractor if self.config.ffe else None
        embedder = replace(embedder, extractor=extractor, encoder=encoder if self.config.fie else None)
        return replace(shape, identity_embedder=embedder)

    def _take_eye_features(self, path: Path) -> None:
        """Pretrained layers 0 to 2 of VGG16, frozen."""
        extractor = cast(IdentityEmbedder, self.network.identity_embedder).facial_feature_extractor
        if extractor is None:
            return
        own = {f"features.{key}": value for key, value in extractor.vgg16["features"].state_dict().items()}
        state = {key: value.float() for key, value in read_weights(path).items() if key in own}
        load_exactly(extractor.vgg16, state, str(path))
        extractor.vgg16.requires_grad_(False)

    def _restore(self, mode: str, count: int = 24) -> Tensor:
        """Held-out inputs restored without references ("none"), with the person's ("own") or a stranger's ("wrong")."""
        restored = []
        for index in range(min(count, len(self.held_out["lq"]))):
            sample = {key: value[index : index + 1] for key, value in self.held_out.items()}
            if mode == "wrong":
                other = self._stranger(index)
                sample |= {k: v[other : other + 1] for k, v in self.held_out.items() if k.startswith("reference")}
            sample = on_device(sample, self.device)
            references, marks, who = self.condition(sample)
            chosen = None if mode == "none" else references
            restored.append(self.network(sample["lq"], chosen, marks.points, who).restored.float())
        return torch.cat(restored)

    def _stranger(self, index: int) -> int:
        """The next held-out sample that shows another person; the next one where all show one."""
        people = self.held_out["person"].tolist()
        around = [*range(index + 1, len(people)), *range(index)]
        return next((other for other in around if people[other] != people[index]), (index + 1) % len(people))
