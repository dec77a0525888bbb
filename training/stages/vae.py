"""The tiny profile's autoencoder: principal components of patches, then training on crops, sharp and degraded."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import Dataset

from models.geometry import ALIGNED_SIZE
from models.pixel_unshuffle_autoencoder import PixelUnshuffleAutoencoder, PixelUnshuffleAutoencoderConfig
from training.components import save_component
from training.degradation import PRESETS, degrade
from training.faces import Faces, load_faces
from training.feature_distance import VGG16FeatureDistance
from training.images import psnr, sheet, to_image
from training.stage import Batch, Stage, TrainingConfig, Weight


class VAEConfig(TrainingConfig):
    vgg16: Path
    """VGG16 features, Caffe order."""
    crop: int = Field(128, ge=4, le=ALIGNED_SIZE, multiple_of=4)
    degraded_share: float = Field(0.3, ge=0, le=1)
    feature_weight: Weight = 0.05
    feature_every: int = Field(3, ge=1)


class CropDataset(Dataset[Batch]):
    """Random crops; a share of them degraded, since the encoder must also keep what a bad picture still shows."""

    def __init__(self, faces: Faces, config: VAEConfig) -> None:
        self.faces, self.config = faces, config

    def __getitem__(self, number: int) -> Batch:
        rng = np.random.default_rng((self.config.seed, number))
        index, side = self.faces.targets[rng.integers(len(self.faces.targets))], self.config.crop
        picture = self.faces.pixels(index)
        if min(picture.shape[:2]) < side:
            picture = self.faces.enlarged(index)
        top, left = (rng.integers(0, n - side + 1) for n in picture.shape[:2])
        crop = picture[top : top + side, left : left + side]
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        if rng.random() < self.config.degraded_share:
            crop = degrade(np.ascontiguousarray(crop), PRESETS["vqfr-v1"], rng)
        return {"image": to_image(crop)}


class VAEStage(Stage):
    """Starts from the best linear transform; L1 and shallow VGG16 features."""

    network: PixelUnshuffleAutoencoder

    def __init__(self, config: VAEConfig) -> None:
        self.config = config
        self.network = PixelUnshuffleAutoencoder(PixelUnshuffleAutoencoderConfig())
        self.faces = load_faces(config.data, "train", config.held_out_people)
        self.held_out = load_faces(config.data, "val", config.held_out_people)
        chosen = self.faces.targets[:: max(1, len(self.faces.targets) // 200)]
        self.chosen = self.held_out.targets[:: max(1, len(self.held_out.targets) // 12)]
        self.network.fit_principal_components(torch.stack([to_image(self.faces.enlarged(i)) for i in chosen]))
        self.dataset = CropDataset(self.faces, config)
        self.features = self.teachers = VGG16FeatureDistance(config.vgg16)

    def losses(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        image = batch["image"].to(memory_format=torch.channels_last)
        restored = self.network.decode(self.network.encode(image))
        losses = {"l1": (restored - image).abs().mean()}
        if step % self.config.feature_every == 0:
            weight = self.config.feature_weight * self.config.feature_every
            losses["features"] = weight * self.features(restored, image)
        return losses

    def validate(self) -> Mapping[str, float]:
        images = self._held_out_images()
        restored = torch.cat([self.network.decode(self.network.encode(image[None])) for image in images])
        return {
            "psnr": float(psnr(restored, images).mean()),
            "features": float(self.features(restored[:4], images[:4])),
        }

    def pictures(self) -> Tensor:
        rows = [
            [image, self.network.decode(self.network.encode(image[None]))[0]] for image in self._held_out_images()[:3]
        ]
        return sheet(rows)

    def export(self, folder: Path) -> None:
        save_component(self.network, folder / "vae.safetensors")

    def _held_out_images(self) -> Tensor:
        return torch.stack([to_image(self.held_out.enlarged(i)) for i in self.chosen]).to(self.device)
