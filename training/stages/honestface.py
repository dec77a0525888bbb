"""The reference-conditioned model: LoRA r=16 on the baseline's UNet, identity embedder and reference adapter."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, cast

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from models.bundle import load_exactly, read_manifest
from models.errors import HonestFaceError
from models.face_analyzer import IdentityEncoder, LandmarkDetector, Landmarks
from models.face_tools import build_face_tools
from models.foreign_weights import read_weights
from models.honestface import HonestFace, HonestFaceConfig, SeenReference
from models.identity_embedder import IdentityEmbedder
from models.identity_network import EmbeddedIdentityEncoder, IdentityNetwork, IdentityNetworkConfig
from models.insightface_tools import ArcFaceOnnxConfig
from models.landmark_network import HeatmapLandmarkDetector, LandmarkNetwork, LandmarkNetworkConfig
from models.profiles import PROFILES
from models.references import References
from training.adversary import Adversary, restoration_adversary, restoration_cases
from training.components import load_component, save_generator
from training.faces import load_faces
from training.identity_loss import identity_loss
from training.images import psnr, sheet
from training.masked_face_alignment import attention_mask, masked_distance
from training.onnx_recogniser import OnnxRecogniser, RecogniserConfig
from training.perceptual_distance import PerceptualConfig, perceptual_distance
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
from training.squares import DecodedSquare, cut, decode_square, in_pixels, random_corner
from training.stage import Batch, Stage, on_device


class HonestFaceStageConfig(RestorationConfig):
    baseline: Path
    """Folder with the blind model's components: a finished baseline run, or a bundle such as OSDFace's."""
    landmarks: Path | None = None
    identity: Path | None = None
    face_tools: Path | None = None
    """A bundle whose landmark and identity networks to use (FAN and ArcFace, say) instead of those two files."""
    lora_rank: int = Field(16, ge=1)
    eye_features: Path | None = None
    """VGG16 as torchvision names it, for the facial feature extractor's first layers, which then stay as they are."""
    ffe: bool = True
    """Facial feature extractor; off in the ablation of Table 3c."""
    fie: bool = True
    """Face identity encoder; off in the ablation of Table 3c."""
    recognisers: tuple[RecogniserConfig, ...] = ()
    """Recognisers f_i of Eq. 8 beside the profile's own identity encoder."""
    references: int = Field(2, ge=1)
    reference_dropout: float = Field(0.2, ge=0, le=1)
    """Share of samples without references."""
    wrong_person: float = Field(0.1, ge=0, le=1)
    """Share of the other samples with a stranger's picture as reference, so that the gate learns to stay shut."""
    identity_weight: float = 0.3
    mfa_weight: float = 0.1
    mfa_distance: PerceptualConfig | None = None
    """The paper: LPIPS. By default what the whole picture is compared with."""
    mfa_heatmap: bool = True
    """Whether MFA looks where people look (Eq. 10-11); off in the ablation of Table 3b."""
    mfa_every: int = Field(4, ge=1)
    """How often MFA is measured on the decoded square; its weight makes up for the steps between. A multiple of
    `face_every`, so that it is never due on a whole face, unless all steps see these."""
    face_every: int = Field(4, ge=1)
    """How often whole faces are restored for the identity loss; the steps between see squares of `crop_side`."""
    face_batch: int = Field(4, ge=1)
    """Whole faces of such a step, at most; where all steps see whole faces, `batch` alone counts."""

    @model_validator(mode="after")
    def _mfa_is_never_due_on_a_whole_face(self) -> Self:
        if self.mfa_weight and self.mfa_every % self.face_every:
            raise ValueError(f"mfa_every is {self.mfa_every}, must be a multiple of face_every ({self.face_every})")
        return self


@dataclass(frozen=True, eq=False)
class _Given:
    """What whole faces are restored from and to: latents, the truth, the prompt, references bent, heatmaps."""

    latent: Tensor
    target: Tensor
    truth: Tensor
    prompt: Tensor
    seen: SeenReference | None
    marks: Landmarks


class HonestFaceStage(Stage):
    """The baseline's losses and MFA (Eq. 13) on squares, and every `face_every` steps Eq. 8 on whole faces."""

    network: HonestFace
    adversary: Adversary | None = None
    landmark_detector: LandmarkDetector
    identity_encoder: IdentityEncoder

    def __init__(self, config: HonestFaceStageConfig) -> None:
        self.config = config
        face_tools = self._face_tools(config).requires_grad_(False)
        self.network = HonestFace(self._shape())
        for name in inherited(self.network):
            load_component(self.network.get_submodule(name), config.baseline / f"{name}.safetensors")
        if config.warm_start:
            for name in ("identity_embedder", "reference_adapter"):
                if getattr(self.network, name) is not None:
                    load_component(self.network.get_submodule(name), config.warm_start / f"{name}.safetensors")
        self.features = chosen_distance(config)
        self.adversary = restoration_adversary(config, self.network, self.features)
        freeze_all_but(self.network, ("identity_embedder.", "reference_adapter.", "vre.projection."))
        adapt(self.network.unet, config.lora_rank)
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
        self.recognisers = [OnnxRecogniser(recogniser) for recogniser in config.recognisers]
        self.mfa_distance = perceptual_distance(config.mfa_distance) if config.mfa_distance else self.features
        self.teachers = nn.ModuleList([self.features, self.mfa_distance, face_tools, *self.recognisers])
        held_out = RestorationDataset(kept, ["vqfr-v2"], 1, config.references, 0.0, loners=False)
        self.held_out = held_out_samples(held_out, 24)

    def losses(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        network, config = self.network, self.config
        whole = step % config.face_every == config.face_every - 1
        if whole and config.face_every > 1:
            batch = {key: value[: config.face_batch] for key, value in batch.items()}
        truth, lq = (batch[key].to(memory_format=torch.channels_last) for key in ("truth", "lq"))
        with torch.no_grad():
            latent, target = network.vae.encode(torch.cat([lq, truth])).chunk(2)
            references, marks, who = self.condition(batch)
        prompt, seen = visual_prompt(network, lq), None
        if references is not None:
            person = cast(IdentityEmbedder, network.identity_embedder)(marks.points, references)
            prompt = network.fusion(prompt, person)
            seen = network.see(latent, person, references, marks.points, who)
        given = _Given(latent, target, truth, prompt, seen, marks)
        squares = 1 if whole else config.squares
        return mean_losses([self._square(given, whole, step) for _ in range(squares)])

    def _square(self, given: "_Given", whole: bool, step: int) -> dict[str, Tensor]:
        """Losses of the whole faces or of a random square of each."""
        network, config = self.network, self.config
        side = given.truth.shape[-1] if whole else config.crop_side
        cells = side // network.vae.patch
        corner = random_corner(given.latent, cells)
        latent, target = cut(given.latent, corner, cells), cut(given.target, corner, cells)
        seen = given.seen and replace(given.seen, latent=cut(given.seen.latent, corner, cells))
        restored = network.predict(latent, given.prompt, network.steer(latent, seen), corner)
        place = in_pixels(network, corner)
        truth = cut(given.truth, place, side)
        if whole:
            decoded = DecodedSquare(network.vae.decode(restored), truth)
            losses = {
                "latent": config.latent_weight * F.l1_loss(restored, target),
                "identity": self._identity_loss(decoded.restored, truth),
            }
        else:
            decoded = decode_square(network, restored, truth, config.decoded_side, place)
            losses = {}
        if not whole or config.face_every == 1:
            losses |= restoration_losses(restored, target, decoded, self.features, config, step)
        if self.adversary is not None:
            cases = restoration_cases((restored, target), given.prompt, corner, decoded, config)
            losses |= self.adversary.judge(cases, step)
        if config.mfa_weight and step % config.mfa_every == 0:
            mask = attention_mask(given.marks.heatmaps, given.truth.shape[-1])
            mask = cut(mask, decoded.corner, decoded.truth.shape[-1])
            mask = mask if config.mfa_heatmap else torch.ones_like(mask)
            distance = masked_distance(decoded.restored, decoded.truth, mask, self.mfa_distance)
            losses["mfa"] = config.mfa_every * config.mfa_weight * distance
        return losses

    def _identity_loss(self, restored: Tensor, truth: Tensor) -> Tensor:
        """Eq. 8 of whole faces; its weight makes up for the steps between."""
        loss = identity_loss(restored.float(), truth, [self.identity_encoder, *self.recognisers])
        return self.config.face_every * self.config.identity_weight * loss

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

    def _face_tools(self, config: HonestFaceStageConfig) -> nn.ModuleList:
        """Sets the landmark detector and the identity encoder, and gives their networks, frozen."""
        if config.face_tools:
            folder, manifest = config.face_tools, read_manifest(config.face_tools)
            if isinstance(manifest.face_tools.identity, ArcFaceOnnxConfig):
                raise HonestFaceError(
                    f"{folder}: the identity network is an ONNX file, which gives no gradients (Eq. 8): "
                    "import the .pt weights of arcface_torch instead (honestface bundle import-arcface)"
                )
            networks: dict[str, nn.Module] = {}

            def load(name: str, network: nn.Module) -> None:
                load_component(network, folder / f"{name}.safetensors")
                networks[name] = network

            tools = build_face_tools(
                manifest.face_tools, manifest.matching_angle, load, lambda name: folder / f"{name}.onnx"
            )
            self.landmark_detector, self.identity_encoder = tools.landmark_detector, tools.identity_encoder
            return nn.ModuleList([networks["landmarks"], networks["identity"]])
        if config.landmarks is None or config.identity is None:
            raise HonestFaceError("face tools are needed: set landmarks and identity, or face_tools")
        landmarks, identity = LandmarkNetwork(LandmarkNetworkConfig()), IdentityNetwork(IdentityNetworkConfig())
        load_component(landmarks, config.landmarks)
        load_component(identity, config.identity)
        self.landmark_detector = HeatmapLandmarkDetector(landmarks, "landmarks")
        self.identity_encoder = EmbeddedIdentityEncoder(identity, "identity")
        return nn.ModuleList([landmarks, identity])

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
