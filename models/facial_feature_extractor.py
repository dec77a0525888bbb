"""Facial feature extractor, FFE (paper 3.2, Fig. 2): colour and structure of both eyes of the optimal reference."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.affine_landmark_distance import affine_landmark_distance
from models.references import References, segment_argmin
from models.vgg16 import IMAGENET_MEAN, IMAGENET_STD, vgg16_features

# The person's own left and right, as in the 68-point order: the left eye is at the right of the image. Slices, because
# a list of indices is copied to the device at each use, and that copy waits.
LEFT_EYE = slice(42, 48)
RIGHT_EYE = slice(36, 42)

# Eq. 6 does not say over which points. Ours: one fit over all points that the paper measures A-LD on, EYES and MOUTH.
# The jaw is left out, since under hair and beards it is guessed; and one fit, not one each for eyes and mouth, because
# the place of the mouth relative to the eyes is what tells a pose or an expression.
SELECTION: tuple[slice, ...] = (slice(17, 27), slice(36, 60))


def reference_distances(landmarks: Tensor, references: References) -> Tensor:
    """d of Eq. 6: A-LD `[R]`, float64, from each reference to its image, of the images with `landmarks [B, 68, 2]`.

    Infinite where the landmarks of either define no affine; no device sync.
    """
    own, points = landmarks[references.owner], references.landmarks
    own, points = (torch.cat([part[:, chosen] for chosen in SELECTION], 1) for part in (own, points))
    return affine_landmark_distance(points, own, check=False)


def optimal_reference(landmarks: Tensor, references: References) -> Tensor:
    """The row `[B]` of the optimal reference r0 of each image (Eq. 6), -1 where it has none; no device sync."""
    return segment_argmin(reference_distances(landmarks, references), references.owner, references.batch)


@dataclass(frozen=True)
class FacialFeatureExtractorConfig:
    """Patch size, pooling and widths are unstated in the paper: the choices here are ours.

    `patch_size`: side of an eye patch in pixels as VGG16 sees it. `eye_widths`: side of the square cut from the
    picture, in widths of the eye, so that lids and lashes are inside. `supersampling`: samples per patch pixel and
    direction, averaged; keep patch_size * supersampling at or above the pixels cut, or the patch aliases (at 512 px
    an eye is some 60 px wide). `cells`: each feature map is pooled over cells x cells. `width`: of one embedding.
    """

    prompt_width: int = 1024
    patch_size: int = 128
    eye_widths: float = 2.0
    supersampling: int = 1
    cells: int = 4
    width: int = 256
    pixel_mean: tuple[float, float, float] = IMAGENET_MEAN
    pixel_std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        if self.patch_size % self.cells:
            raise ValueError(f"eye patches of {self.patch_size} px are not {self.cells} cells wide")


def eye_patches(images: Tensor, landmarks: Tensor, config: FacialFeatureExtractorConfig) -> Tensor:
    """Left and right eye patches `[B, 2, 3, P, P]` of images `[B, 3, H, W]` by their landmarks `[B, 68, 2]` in pixels.

    Upright squares around the middle of the eye; differentiable in images and landmarks. Beyond the image its edge
    goes on.
    """
    eyes = torch.stack([landmarks[:, LEFT_EYE], landmarks[:, RIGHT_EYE]], 1).float()
    # The corners are the first and the fourth point of an eye.
    side = config.eye_widths * (eyes[:, :, 0] - eyes[:, :, 3]).norm(dim=-1)
    samples = config.patch_size * config.supersampling
    steps = (torch.arange(samples, device=images.device, dtype=torch.float32) + 0.5) / samples - 0.5
    places = eyes.mean(2)[..., None] + (side[..., None] * steps)[:, :, None]
    # grid_sample without align_corners: -1 and 1 are the outer edges of the outer pixels.
    height, width = images.shape[-2:]
    x, y = (2 * places[:, :, 0] + 1) / width - 1, (2 * places[:, :, 1] + 1) / height - 1
    grid = torch.stack([x[:, :, None, :].expand(-1, -1, samples, -1), y[..., None].expand(-1, -1, -1, samples)], -1)
    # Both eyes of an image in one call, one above the other.
    patches = F.grid_sample(images.float(), grid.flatten(1, 2), padding_mode="border", align_corners=False)
    patches = F.avg_pool2d(patches, config.supersampling)
    return torch.stack(patches.chunk(2, dim=2), 1).to(images.dtype)


class FacialFeatureExtractor(nn.Module):
    """p_F: n1 = 4 tokens from an optimal reference: colour and structure of the left eye, then of the right.

    Colour is read off VGG16's layer 0 and structure off its layer 2, each as mean and standard deviation per channel
    and cell. The two eyes share the layers that make an embedding; "concatenated and projected" is read as four tokens
    in a row, one projection, and a learned offset that tells them apart.
    """

    tokens = 4

    def __init__(self, config: FacialFeatureExtractorConfig) -> None:
        super().__init__()
        self.config = config
        statistics = 2 * 64 * config.cells**2
        # Under torchvision's key names.
        self.vgg16 = nn.ModuleDict({"features": vgg16_features(2)})
        self.colour = _embedding(statistics, config.width)
        self.structure = _embedding(statistics, config.width)
        self.projection = nn.Linear(config.width, config.prompt_width)
        self.offset = nn.Parameter(torch.randn(self.tokens, config.prompt_width) * 0.02)
        self.register_buffer("pixel_mean", torch.tensor(config.pixel_mean).view(3, 1, 1))
        self.register_buffer("pixel_std", torch.tensor(config.pixel_std).view(3, 1, 1))
        self.pixel_mean: Tensor
        self.pixel_std: Tensor

    def forward(self, images: Tensor, landmarks: Tensor) -> Tensor:
        """Tokens `[B, 4, k]` of aligned references `[B, 3, H, W]`, RGB in [-1, 1], landmarks `[B, 68, 2]` in pixels."""
        patches = eye_patches(images, landmarks, self.config).flatten(0, 1)
        layers = iter(self.vgg16["features"].children())
        colour = next(layers)(((patches + 1) / 2 - self.pixel_mean) / self.pixel_std)
        structure = colour
        for layer in layers:
            structure = layer(structure)
        embeddings = torch.stack([self.colour(self._pool(colour)), self.structure(self._pool(structure))], 1)
        tokens: Tensor = self.projection(embeddings.reshape(len(images), self.tokens, -1)) + self.offset
        return tokens

    def _pool(self, features: Tensor) -> Tensor:
        cell = features.shape[-1] // self.config.cells
        mean, square = F.avg_pool2d(features, cell), F.avg_pool2d(features.square(), cell)
        # The offset keeps the slope of the root finite on a flat patch.
        deviation = ((square - mean.square()).clamp(min=0) + 1e-6).sqrt()
        return torch.cat([mean, deviation], 1).flatten(1)


def _embedding(statistics: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(statistics), nn.Linear(statistics, width), nn.GELU())
