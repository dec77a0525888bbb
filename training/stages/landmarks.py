"""The landmark network: heatmaps of 68 points on clean and degraded views of labelled faces."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydantic import Field
from torch import Tensor
from torch.utils.data import Dataset

from models.errors import PictureError
from models.geometry import ALIGNED_SIZE, FFHQ_512, enlargement, fit_similarity, five_points, transform_points
from models.landmark_network import LandmarkNetwork, LandmarkNetworkConfig, soft_argmax
from training.components import load_component, save_component
from training.decoded_pictures import enlarge, read_pixels
from training.degradation import PRESETS, Degradation, degrade
from training.face_views import Jitter, moved_landmarks, random_view
from training.faces import load_faces
from training.images import to_image, to_picture
from training.labelled_pictures import labelled_pictures
from training.stage import Batch, Presets, Stage, TrainingConfig, Weight

#: A fixed 8x degradation to report on, in the preset's 512 px.
EIGHT_TIMES = Degradation(blur=(4, 4), down=(8, 8), noise=(8, 8), jpeg=(60, 60))


class LandmarksConfig(TrainingConfig):
    extra: tuple[Path, ...] = ()
    """More folders of pictures with landmarks: `landmarks.npz` or `labels.npz` with files and landmarks. With
    descriptors (sface) there too, who is too like a person held out is left out."""
    warm_start: Path | None = None
    """The network of an earlier run to begin with."""
    presets: Presets = ("wide",)
    degraded: float = Field(0.6, ge=0, le=1)
    """Share of the views that one of `presets` degrades."""
    heatmap_sigma: float = 1.0
    coordinate_weight: Weight = 20.0


class ViewDataset(Dataset[Batch]):
    """Random views with their landmarks in 0..1 of the view."""

    def __init__(self, pictures: list[tuple[Path, NDArray[np.float32]]], config: LandmarksConfig, size: int) -> None:
        self.pictures, self.config, self.size = pictures, config, size
        self.jitter = Jitter(35, 0.3, 0.1, config.degraded, config.presets)
        self.template = transform_points(enlargement(size / ALIGNED_SIZE), FFHQ_512)

    def __getitem__(self, number: int) -> Batch:
        rng = np.random.default_rng((self.config.seed, number))
        path, landmarks = self.pictures[rng.integers(len(self.pictures))]
        frame = fit_similarity(five_points(landmarks), self.template)
        view, matrix, mirrored = random_view(read_pixels(path), frame, self.size, self.jitter, rng)
        points = (moved_landmarks(landmarks, matrix, mirrored) + 0.5) / self.size
        return {"image": to_image(view), "points": torch.from_numpy(points.astype(np.float32))}


class LandmarksStage(Stage):
    """Cross-entropy to Gaussian heatmaps, and L1 of the expected positions."""

    network: LandmarkNetwork

    def __init__(self, config: LandmarksConfig) -> None:
        self.config = config
        self.network = LandmarkNetwork(LandmarkNetworkConfig())
        if config.warm_start:
            load_component(self.network, config.warm_start)
        faces, self.held_out = (load_faces(config.data, split, config.held_out_people) for split in ("train", "val"))
        pictures = [(file.path, file.landmarks) for file in faces.files if file.landmarks is not None]
        self.labelled = [i for i in self.held_out.targets if self.held_out.files[i].landmarks is not None]
        for found, split in ((pictures or config.extra, "train"), (self.labelled, "val")):
            if not found:
                raise PictureError(f"{config.data}: no landmarks in labels.npz of the {split} split's faces")
        for folder in config.extra:
            pictures += labelled_pictures(folder, apart_from=self.held_out.descriptors())
        self.dataset = ViewDataset(pictures, config, self.network.config.size)

    def losses(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        logits = self.network(batch["image"].to(memory_format=torch.channels_last)).float()
        target = gaussian_heatmaps(batch["points"], logits.shape[-1], self.config.heatmap_sigma)
        heatmap = -(target.flatten(2) * logits.flatten(2).log_softmax(-1)).sum(-1)
        inside = ((batch["points"] > 0) & (batch["points"] < 1)).all(-1)
        distance = (soft_argmax(logits) - batch["points"]).abs().sum(-1)
        return {
            "heatmap": 0.2 * (heatmap * inside).mean(),
            "coordinates": self.config.coordinate_weight * (distance * inside).mean(),
        }

    def validate(self) -> Mapping[str, float]:
        degradations = {"clean": None, "8x": EIGHT_TIMES, "vqfr_v2": PRESETS["vqfr-v2"]}
        return {f"nme_{name}": self._error(preset) for name, preset in degradations.items()}

    def pictures(self) -> Tensor:
        images, _ = self._held_out(EIGHT_TIMES, self.labelled[:6])
        points = soft_argmax(self.network(images)) * images.shape[-1]
        tiles = []
        for image, marks in zip(images, points, strict=True):
            tile = Image.fromarray(to_picture(image))
            draw = ImageDraw.Draw(tile)
            for x, y in marks.tolist():
                draw.ellipse((x - 1, y - 1, x + 1, y + 1), fill=(0, 255, 0))
            tiles.append(torch.from_numpy(np.array(tile)).permute(2, 0, 1) / 255)
        return torch.cat(tiles, dim=2)

    def export(self, folder: Path) -> None:
        save_component(self.network, folder / "landmarks.safetensors")

    def _error(self, preset: Degradation | None) -> float:
        """Mean point error over the distance of the eyes' outer corners, in per cent, on aligned validation faces."""
        images, points = self._held_out(preset, self.labelled[::2])
        found = torch.cat([soft_argmax(self.network(image[None])) for image in images]) * ALIGNED_SIZE - 0.5
        distance = (found - points).norm(dim=-1).mean(1)
        between = (points[:, 36] - points[:, 45]).norm(dim=-1)
        return float((distance / between).mean()) * 100

    def _held_out(self, preset: Degradation | None, chosen: list[int]) -> tuple[Tensor, Tensor]:
        """Those of the faces that have landmarks: `[B, 3, 256, 256]`, and the landmarks `[B, 68, 2]` in 512 px."""
        images, points = [], []
        for index in chosen:
            file = self.held_out.files[index]
            if file.landmarks is None:
                continue
            picture = read_pixels(file.path)
            marks = transform_points(enlargement(ALIGNED_SIZE / picture.shape[0]), file.landmarks)
            picture = enlarge(picture)
            if preset is not None:
                picture = degrade(picture, preset, np.random.default_rng(index))
            small = F.interpolate(to_image(picture)[None], (256, 256), mode="bilinear", antialias=True)
            images.append(small[0].clamp(-1, 1))
            points.append(torch.from_numpy(marks.astype(np.float32)))
        return torch.stack(images).to(self.device), torch.stack(points).to(self.device)


def gaussian_heatmaps(points: Tensor, size: int, sigma: float) -> Tensor:
    """Gaussians `[B, N, size, size]` of sum 1 around points `[B, N, 2]` in 0..1; sigma in cells."""
    cells = torch.arange(size, device=points.device) + 0.5
    x = torch.exp(-0.5 * ((cells - points[..., :1] * size) / sigma) ** 2)
    y = torch.exp(-0.5 * ((cells - points[..., 1:] * size) / sigma) ** 2)
    maps = y.unsqueeze(-1) * x.unsqueeze(-2)
    return maps / maps.sum((2, 3), keepdim=True).clamp_min(1e-6)
