"""The face detector: pictures of one face each, scaled, turned and put together into scenes of up to four faces."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydantic import Field
from torch import Tensor
from torch.utils.data import Dataset

from models.face_detector import (
    SIZES,
    STRIDES,
    EmbeddedFaceDetector,
    FaceDetectorConfig,
    FaceDetectorNetwork,
    cell_centres,
)
from models.geometry import Pixels, transform_points, warp
from training.components import load_component, save_component
from training.decoded_pictures import DecodedPictures
from training.degradation import PRESETS, degrade
from training.face_views import relight
from training.faces import load_faces
from training.images import to_image, to_picture
from training.labelled_pictures import labelled_pictures
from training.stage import Batch, Presets, Stage, TrainingConfig

MOST_FACES = 4

#: Side in px (geometric mean of the box's) of an aligned face of 512 px, which the presets are meant for.
_ALIGNED_FACE = 250.0

#: A scene is degraded between this part of what its smallest face would be as an aligned one, and all of it.
_LEAST_DEGRADED = 0.25

Labelled = list[tuple[Path, NDArray[np.float32]]]


class DetectorConfig(TrainingConfig):
    """`data` is a folder of whole photographs with `landmarks.npz` (and an index.csv that names its `val` files)."""

    faces: Path | None = None
    """Aligned faces with landmarks (`training.faces.load_faces`) to show in a part of the scenes."""
    extra: tuple[Path, ...] = ()
    """More folders of such pictures. With descriptors (sface), who is too like a person held out of `faces` is left
    out."""
    warm_start: Path | None = None
    """The network of an earlier run to begin with."""
    presets: Presets = ("vqfr-v1",)
    degraded: float = Field(0.4, ge=0, le=1)
    """Share of the scenes that one of `presets` degrades."""
    canvas: int = 320
    smallest: float = 14.0
    largest: float = 240.0


class SceneDataset(Dataset[Batch]):
    """Scenes `[3, S, S]` with up to MOST_FACES boxes, NaN where there are fewer.

    Whole photographs are what backgrounds and distractions are cut from. Faces come from them and from `more` lists of
    pictures, from each equally often.
    """

    def __init__(self, photos: Labelled, config: DetectorConfig, more: Sequence[Labelled] = ()) -> None:
        self.photos, self.config = photos, config
        self._sources = [photos, *more]
        self._decoded = DecodedPictures()

    def __getitem__(self, number: int) -> Batch:
        rng = np.random.default_rng((self.config.seed, number))
        size = self.config.canvas
        scene = self._background(rng)
        for _ in range(rng.integers(0, 6)):
            self._distract(scene, rng)
        boxes = np.full((MOST_FACES, 4), np.nan, dtype=np.float32)
        columns, rows = ((0, 0), (1, 1), (2, 1), (2, 2))[rng.choice(4, p=[0.2, 0.4, 0.2, 0.2])]
        for row in range(rows):
            for column in range(columns):
                area = (column * size // columns, row * size // rows, size // columns, size // rows)
                boxes[row * columns + column] = self._place(scene, area, rng)
        scene = relight(scene, rng)
        if rng.random() < self.config.degraded:
            preset = PRESETS[self.config.presets[int(rng.integers(len(self.config.presets)))]]
            scene = degrade(scene, preset, rng, scale=self._scale(boxes, rng))
        return {"image": to_image(scene), "boxes": torch.from_numpy(boxes)}

    def _scale(self, boxes: NDArray[np.float32], rng: np.random.Generator) -> float:
        """How hard a scene of such boxes may be degraded, so that no face is lost altogether."""
        sides = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
        smallest = np.nanmin(sides) if np.isfinite(sides).any() else rng.uniform(self.config.smallest, _ALIGNED_FACE)
        return float(min(1.0, smallest / _ALIGNED_FACE) * rng.uniform(_LEAST_DEGRADED, 1.0))

    def _background(self, rng: np.random.Generator) -> Pixels:
        """A faceless corner of some photograph, stretched over the scene."""
        path, marks = self.photos[rng.integers(len(self.photos))]
        picture = self._decoded.read(path)
        top = max(24, int(marks[:, 1].min() - 0.5 * np.ptp(marks[:, 1])))
        left = max(24, int(marks[:, 0].min() - 0.3 * np.ptp(marks[:, 0])))
        patch = picture[:top] if rng.random() < 0.5 else picture[:, :left]
        size = (self.config.canvas, self.config.canvas)
        return np.array(Image.fromarray(patch).resize(size, Image.Resampling.BILINEAR))

    def _distract(self, scene: Pixels, rng: np.random.Generator) -> None:
        """Paint what is no face: clothes, hair, flags, or a part of a face too small to be one, at any size."""
        path, marks = self.photos[rng.integers(len(self.photos))]
        picture = self._decoded.read(path)
        low, high = marks.min(0), marks.max(0)
        for _ in range(10):
            side = int(np.exp(rng.uniform(np.log(20), np.log(0.7 * min(picture.shape[:2])))))
            left, top = rng.integers(0, picture.shape[1] - side), rng.integers(0, picture.shape[0] - side)
            shared = np.clip(np.minimum(high, (left + side, top + side)) - np.maximum(low, (left, top)), 0, None).prod()
            if shared < 0.15 * (high - low).prod():
                break
        else:
            return
        size = int(np.exp(rng.uniform(np.log(24), np.log(scene.shape[0]))))
        patch = Image.fromarray(picture[top : top + side, left : left + side]).resize((size, size))
        pixels = np.rot90(np.asarray(patch), int(rng.integers(4)))
        x, y = rng.integers(0, scene.shape[0] - size + 1, 2)
        scene[y : y + size, x : x + size] = pixels

    def _place(self, scene: Pixels, area: tuple[int, int, int, int], rng: np.random.Generator) -> NDArray[np.float32]:
        """Paint a picture into an area of the scene, its face at a random size and place; gives the face's box."""
        source = self._sources[rng.integers(len(self._sources))]
        path, marks = source[rng.integers(len(source))]
        picture = self._decoded.read(path)
        x, y, width, height = area
        largest = min(self.config.largest, 0.8 * min(width, height))
        face = np.exp(rng.uniform(np.log(self.config.smallest), np.log(largest)))
        scale = face / np.sqrt(np.prod(np.ptp(marks, axis=0)))
        angle = np.deg2rad(rng.normal(0, 12))
        linear = scale * np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
        if rng.random() < 0.5:
            linear[:, 0] *= -1
        centre = np.array([rng.uniform(0.55 * face, width - 0.55 * face), rng.uniform(0.6 * face, height - 0.5 * face)])
        middle = (marks.min(0) + marks.max(0)) / 2
        matrix = np.column_stack([linear, centre - linear @ middle])
        painted = warp(picture, matrix, (width, height))
        inside = warp(np.full(picture.shape[:2], 255, np.uint8), matrix, (width, height), fill=0) > 127
        # a small picture leaves room: its edge is repeated half of the time, else the scene's background shows
        mask = inside if rng.random() < 0.5 else np.ones_like(inside)
        scene[y : y + height, x : x + width][mask] = painted[mask]
        points = transform_points(matrix, marks) + np.array([x, y])
        return np.concatenate([points.min(0), points.max(0)]).astype(np.float32)


class DetectorStage(Stage):
    """Focal loss on the scores of all cells, overlap loss on the boxes of those inside a face."""

    network: FaceDetectorNetwork

    def __init__(self, config: DetectorConfig) -> None:
        self.config = config
        self.network = FaceDetectorNetwork(FaceDetectorConfig())
        if config.warm_start:
            load_component(self.network, config.warm_start)
        more, held_out, apart_from = [], [], None
        if config.faces:
            more, held_out = [labelled_pictures(config.faces)], [labelled_pictures(config.faces, "val")]
            apart_from = load_faces(config.faces, "val").descriptors()
        more += [labelled_pictures(folder, apart_from=apart_from) for folder in config.extra]
        self.dataset = SceneDataset(labelled_pictures(config.data, "train", config.held_out_people), config, more)
        self.held_out = SceneDataset(labelled_pictures(config.data, "val", config.held_out_people), config, held_out)

    def losses(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        scores, boxes = self.network(batch["image"].to(memory_format=torch.channels_last))
        owner, ignored = assign(batch["boxes"], self.config.canvas)
        positive = owner >= 0
        target = positive.float()
        probability = scores.sigmoid()
        agreement = torch.where(positive, probability, 1 - probability)
        focal = (1 - agreement).pow(2) * F.binary_cross_entropy_with_logits(scores, target, reduction="none")
        count = positive.sum().clamp_min(1)
        truth = batch["boxes"].nan_to_num().gather(1, owner.clamp_min(0).unsqueeze(-1).expand(-1, -1, 4))
        overlap_loss = generalised_overlap_loss(boxes, truth)
        return {
            "scores": (focal * ~ignored).sum() / count,
            "boxes": 2.0 * torch.where(positive, overlap_loss, 0.0).sum() / count,
        }

    def validate(self) -> Mapping[str, float]:
        """Recall and precision at half overlap on scenes of held-out photographs."""
        detector = EmbeddedFaceDetector(self.network)
        found = faces = right = 0
        for number in range(60):
            sample = self.held_out[number]
            picture = to_picture(sample["image"])
            truth = sample["boxes"][~sample["boxes"].isnan().any(1)].numpy()
            detections = detector.detect(picture)
            faces, found = faces + len(truth), found + len(detections)
            for box in truth:
                boxes = np.array([d.box for d in detections], dtype=np.float32).reshape(-1, 4)
                right += bool(len(boxes)) and float(box_overlap(box, boxes).max()) >= 0.5
        return {"recall": right / max(1, faces), "precision": right / max(1, found)}

    def pictures(self) -> Tensor:
        detector = EmbeddedFaceDetector(self.network)
        tiles = []
        for number in range(5):
            picture = to_picture(self.held_out[number]["image"])
            tile = Image.fromarray(picture)
            for detection in detector.detect(picture):
                ImageDraw.Draw(tile).rectangle(detection.box, outline=(0, 255, 0))
            tiles.append(torch.from_numpy(np.array(tile)).permute(2, 0, 1) / 255)
        return torch.cat(tiles, dim=2)

    def export(self, folder: Path) -> None:
        save_component(self.network, folder / "detector.safetensors")


def assign(boxes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """For each cell `[B, A]` the face of `boxes` `[B, M, 4]` it answers for, or -1, and whether the loss ignores it.

    A cell answers if its centre is in the middle half of a face of its stride's size. Ignored are the other cells well
    inside a face. `size` is the side of the square picture; NaN boxes are no faces.
    """
    owners, ignores = [], []
    for stride, (low, high) in zip(STRIDES, SIZES, strict=True):
        cells = size // stride
        centres = cell_centres(cells, cells, stride).to(boxes)
        middle, extent = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
        face_size = extent.prod(-1).sqrt()
        offset = (centres[None, :, None] - middle[:, None]).abs() / extent[:, None]  # B, A, M, 2
        reach = torch.maximum(torch.full_like(extent, 0.25), 0.5 * stride / extent)[:, None]
        core = (offset <= reach).all(-1)
        fits = (face_size >= 0.8 * low) & (face_size < 1.25 * high)
        positive = core & fits[:, None]
        owners.append(torch.where(positive.any(-1), positive.float().argmax(-1), -1))
        ignores.append((offset <= 0.45).all(-1).any(-1) & ~positive.any(-1))
    return torch.cat(owners, 1), torch.cat(ignores, 1)


def box_overlap(box: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of one box `[4]` with boxes `[N, 4]`."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    inside = np.clip(high - low, 0, None).prod(1)
    area = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - inside
    overlap: NDArray[np.float32] = inside / np.maximum(area, 1e-9)
    return overlap


def generalised_overlap_loss(boxes: Tensor, truth: Tensor) -> Tensor:
    """1 - GIoU of matching boxes `[..., 4]`."""
    low, high = torch.maximum(boxes[..., :2], truth[..., :2]), torch.minimum(boxes[..., 2:], truth[..., 2:])
    inside = (high - low).clamp_min(0).prod(-1)
    union = (boxes[..., 2:] - boxes[..., :2]).prod(-1) + (truth[..., 2:] - truth[..., :2]).prod(-1) - inside
    hull_low, hull_high = torch.minimum(boxes[..., :2], truth[..., :2]), torch.maximum(boxes[..., 2:], truth[..., 2:])
    hull = (hull_high - hull_low).prod(-1)
    return 1 - inside / union.clamp_min(1e-6) + (hull - union) / hull.clamp_min(1e-6)
