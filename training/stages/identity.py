"""The identity encoder: a teacher's embedding of the clean face, distilled from clean and degraded views of it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from models.geometry import ARCFACE_112, ARCFACE_SIZE, fit_similarity, five_points
from models.identity_network import EmbeddedIdentityEncoder, IdentityNetwork, IdentityNetworkConfig
from training.components import load_component, save_component
from training.degradation import PRESETS, degrade
from training.face_views import Jitter, random_view
from training.faces import described_pictures, load_faces
from training.images import to_image
from training.restoration_data import aligned_face
from training.stage import Batch, Stage, TrainingConfig
from training.verification import Verification, verify


class IdentityConfig(TrainingConfig):
    extra: tuple[Path, ...] = ()
    """More folders with `labels.npz` (files, landmarks, sface)."""
    relation_weight: float = 2.0
    warm_start: Path | None = None
    """The encoder of an earlier run to begin with."""


class DescribedDataset(Dataset[Batch]):
    """Views in the ArcFace-112 frame with the teacher's descriptor of the clean picture."""

    def __init__(
        self, pictures: list[tuple[Path, NDArray[np.float32], NDArray[np.float32]]], config: IdentityConfig
    ) -> None:
        self.pictures, self.config = pictures, config
        self.jitter = Jitter(degrees=8, scale=0.08, shift=0.04, degraded=0.65)

    def __getitem__(self, number: int) -> Batch:
        rng = np.random.default_rng((self.config.seed, number))
        path, landmarks, descriptor = self.pictures[rng.integers(len(self.pictures))]
        with Image.open(path) as image:
            picture = np.asarray(image.convert("RGB"))
        frame = fit_similarity(five_points(landmarks), ARCFACE_112)
        view, _, _ = random_view(picture, frame, ARCFACE_SIZE, self.jitter, rng)
        return {"image": to_image(view), "descriptor": torch.from_numpy(descriptor / np.linalg.norm(descriptor))}


class IdentityStage(Stage):
    """1 - cosine to the teacher's embedding, and the same cosines between the people of a batch."""

    network: IdentityNetwork

    def __init__(self, config: IdentityConfig) -> None:
        self.config = config
        self.network = IdentityNetwork(IdentityNetworkConfig())
        if config.warm_start:
            load_component(self.network, config.warm_start)
        pictures = described_pictures(config.data)
        for folder in config.extra:
            pictures += described_pictures(folder)
        self.dataset = DescribedDataset(pictures, config)
        self.held_out = load_faces(config.data, "val", config.held_out_people)

    def losses(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        found = self.network(batch["image"].to(memory_format=torch.channels_last))
        target = batch["descriptor"]
        relations = (found @ found.T - target @ target.T).pow(2).mean()
        return {"cosine": (1 - (found * target).sum(1)).mean(), "relation": self.config.relation_weight * relations}

    def validate(self) -> Mapping[str, float]:
        clean, blurred = self.verification(False), self.verification(True)
        return {
            "auc": clean.auc,
            "tar": clean.true_accepts,
            "auc_degraded": blurred.auc,
            "tar_degraded": blurred.true_accepts,
            "angle": clean.angle,
        }

    def verification(self, degraded: bool) -> Verification:
        """All pairs of validation pictures; `degraded` compares a degraded picture with a clean one (vqfr-v1)."""
        encoder = EmbeddedIdentityEncoder(self.network, "student")
        clean, probes, people = [], [], []
        for index, file in enumerate(self.held_out.files):
            image = self._aligned(index, None)
            probe = self._aligned(index, np.random.default_rng(index)) if degraded else image
            clean.append(encoder.embed(image[None])[0])
            probes.append(encoder.embed(probe[None])[0])
            people.append(file.identity)
        return verify(torch.stack(probes).cpu(), torch.stack(clean).cpu(), people)

    def pictures(self) -> None:
        return None

    def export(self, folder: Path) -> None:
        save_component(self.network, folder / "identity.safetensors")

    def _aligned(self, index: int, rng: np.random.Generator | None) -> Tensor:
        picture, _ = aligned_face(self.held_out, index)
        if rng is not None:
            picture = degrade(picture, PRESETS["vqfr-v1"], rng)
        return to_image(picture).to(self.device)
