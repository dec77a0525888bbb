"""Builds a bundle's face tools: the embedded networks, or the field's networks where a user imported their weights."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from models.face_analyzer import FaceAnalyzer
from models.face_detector import EmbeddedFaceDetector, FaceDetectorConfig, FaceDetectorNetwork
from models.identity_network import EmbeddedIdentityEncoder, IdentityNetwork, IdentityNetworkConfig
from models.landmark_network import HeatmapLandmarkDetector, LandmarkNetwork, LandmarkNetworkConfig


@dataclass(frozen=True)
class FaceToolsConfig:
    """The shapes of the three face networks."""

    detector: FaceDetectorConfig = field(default_factory=FaceDetectorConfig)
    landmarks: LandmarkNetworkConfig = field(default_factory=LandmarkNetworkConfig)
    identity: IdentityNetworkConfig = field(default_factory=IdentityNetworkConfig)


def build_face_tools(
    config: FaceToolsConfig, matching_angle: float, load: Callable[[str, nn.Module], None]
) -> FaceAnalyzer:
    """The three tools on the CPU; `load` fills a network with the weights of the component of that name."""
    detector = FaceDetectorNetwork(config.detector)
    landmarks = LandmarkNetwork(config.landmarks)
    identity = IdentityNetwork(config.identity)
    for name, network in (("detector", detector), ("landmarks", landmarks), ("identity", identity)):
        load(name, network)
        network.eval().requires_grad_(False)
    return FaceAnalyzer(
        detector=EmbeddedFaceDetector(detector, "embedded face detector"),
        landmark_detector=HeatmapLandmarkDetector(landmarks, "embedded landmark network, 68 points"),
        identity_encoder=EmbeddedIdentityEncoder(identity, "embedded identity network, 128-d"),
        matching_angle=matching_angle,
    )
