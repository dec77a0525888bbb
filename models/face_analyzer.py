"""Face tools behind small protocols: the bundle's own networks and the field's libraries are interchangeable."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Detection:
    """A face found in a picture: `box` is x0, y0, x1, y1 in the picture's pixels, `score` in 0..1."""

    box: tuple[float, float, float, float]
    score: float


@dataclass(frozen=True)
class Landmarks:
    """Sub-pixel points `[B, 68, 2]` in the crop's own pixels, and heatmaps `[B, 68, h, w]` in 0..1 over the crop."""

    points: Tensor
    heatmaps: Tensor


class FaceDetector(Protocol):
    """Finds faces in a picture."""

    def detect(self, picture: NDArray[np.uint8]) -> list[Detection]:
        """Faces of an RGB picture `[H, W, 3]`, most confident first; an empty list if there is none."""
        ...


class LandmarkDetector(Protocol):
    """Finds 68 landmarks in square crops framed roughly like FFHQ-512: 30 degrees and 30 % off are fine."""

    @property
    def name(self) -> str: ...

    def landmarks(self, crops: Tensor) -> Landmarks:
        """Landmarks of crops `[B, 3, S, S]`, RGB in [-1, 1]."""
        ...


class IdentityEncoder(Protocol):
    """Embeds faces so that the cosine tells who it is."""

    @property
    def name(self) -> str: ...

    @property
    def width(self) -> int: ...

    def embed(self, faces: Tensor) -> Tensor:
        """Unit embeddings `[B, width]` of FFHQ-512-aligned faces `[B, 3, 512, 512]`, RGB in [-1, 1]; differentiable
        but for ONNX files."""
        ...


@dataclass(frozen=True)
class FaceAnalyzer:
    """The three tools that a restorer needs; `matching_angle` is the identity angle in degrees above which the encoder
    holds two faces for two people (calibrated when the encoder was trained)."""

    detector: FaceDetector
    landmark_detector: LandmarkDetector
    identity_encoder: IdentityEncoder
    matching_angle: float
