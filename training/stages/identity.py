"""The identity encoder: a teacher's embedding of the clean face, distilled from clean and degraded views of it, and
whitened in the end."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from models.geometry import ARCFACE_112, ARCFACE_SIZE, arcface_crop, fit_similarity, five_points
from models.identity_network import EmbeddedIdentityEncoder, IdentityNetwork, IdentityNetworkConfig
from training.components import load_component, save_component
from training.decoded_pictures import enlarge, read_pixels
from training.degradation import PRESETS, degrade
from training.face_views import Jitter, random_view
from training.faces import FaceFile, load_faces
from training.images import to_image
from training.labelled_pictures import described_pictures
from training.stage import Batch, Stage, TrainingConfig, Weight
from training.verification import Verification, verify
from training.whitening import within_class_whitening


class IdentityConfig(TrainingConfig):
    extra: tuple[Path, ...] = ()
    """More folders with `labels.npz` (files, landmarks, sface); who is too like a person held out is left out."""
    relation_weight: Weight = 2.0
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
        frame = fit_similarity(five_points(landmarks), ARCFACE_112)
        view, _, _ = random_view(read_pixels(path), frame, ARCFACE_SIZE, self.jitter, rng)
        return {"image": to_image(view), "descriptor": torch.from_numpy(descriptor / np.linalg.norm(descriptor))}


class IdentityStage(Stage):
    """1 - cosine to the teacher's embedding, and the same cosines between the people of a batch."""

    network: IdentityNetwork

    def __init__(self, config: IdentityConfig) -> None:
        self.config = config
        self.network = IdentityNetwork(IdentityNetworkConfig())
        if config.warm_start:
            load_component(self.network, config.warm_start)
        self.faces, self.held_out = (
            load_faces(config.data, split, config.held_out_people) for split in ("train", "val")
        )
        pictures = described_pictures(config.data, config.held_out_people)
        for folder in config.extra:
            pictures += described_pictures(folder, apart_from=self.held_out.descriptors())
        self.dataset = DescribedDataset(pictures, config)

    def losses(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        found = self.network.describe(batch["image"].to(memory_format=torch.channels_last))
        target = batch["descriptor"]
        relations = (found @ found.T - target @ target.T).pow(2).mean()
        return {"cosine": (1 - (found * target).sum(1)).mean(), "relation": self.config.relation_weight * relations}

    def validate(self) -> Mapping[str, float]:
        angle = self.whiten()
        clean, blurred = self.verification(False), self.verification(True)
        return {
            "auc": clean.auc,
            "tar": clean.true_accepts,
            "auc_degraded": blurred.auc,
            "tar_degraded": blurred.true_accepts,
            "matching_angle": angle,
        }

    @torch.no_grad()
    def whiten(self) -> float:
        """Fit the whitening to the training people, each picture clean and degraded (vqfr-v1).

        Gives the angle in degrees up to which 5 % of the pairs of different training people match.
        """
        crops = (arcface_crop(self._views(file, seed)) for seed, file in enumerate(self.faces.files))
        found = torch.stack([self.network.describe_both_ways(views) for views in crops])
        people = [file.identity for file in self.faces.files]
        weight, bias = within_class_whitening(found.flatten(0, 1).cpu(), [one for one in people for _ in range(2)])
        self.network.whitening.weight.copy_(weight)
        self.network.whitening.bias.copy_(bias)
        some = slice(None, None, 1 + len(people) // 4000)  # of pairs there are as many as pictures squared
        clean, degraded = F.normalize(self.network.whitening(found[some]), dim=2).cpu().unbind(1)
        return verify(degraded, clean, people[some]).angle

    def verification(self, degraded: bool) -> Verification:
        """All pairs of validation pictures; `degraded` compares a degraded picture with a clean one (vqfr-v1)."""
        encoder = EmbeddedIdentityEncoder(self.network, "student")
        views = (self._views(file, seed) for seed, file in enumerate(self.held_out.files))
        found = torch.stack([encoder.embed(both) for both in views])
        people = [file.identity for file in self.held_out.files]
        return verify(found[:, int(degraded)].cpu(), found[:, 0].cpu(), people)

    def pictures(self) -> None:
        return None

    def export(self, folder: Path) -> None:
        self.whiten()
        save_component(self.network, folder / "identity.safetensors")

    def _views(self, file: FaceFile, seed: int) -> Tensor:
        """A face clean and degraded, `[2, 3, 512, 512]`; its place in the list is the seed. It is not kept decoded."""
        picture = enlarge(read_pixels(file.path))
        degraded = degrade(picture, PRESETS["vqfr-v1"], np.random.default_rng(seed))
        return torch.stack([to_image(picture), to_image(degraded)]).to(self.device)
