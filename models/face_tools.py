"""Builds a bundle's face tools: the embedded networks, or the field's networks where a user imported their weights."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from models.face_alignment_tools import FanConfig, FanLandmarkDetector, fan
from models.face_analyzer import FaceAnalyzer, IdentityEncoder, LandmarkDetector
from models.face_detector import EmbeddedFaceDetector, FaceDetectorConfig, FaceDetectorNetwork
from models.identity_network import EmbeddedIdentityEncoder, IdentityNetwork, IdentityNetworkConfig
from models.iresnet import ArcFaceIdentityEncoder, IResNet, IResNetConfig
from models.landmark_network import HeatmapLandmarkDetector, LandmarkNetwork, LandmarkNetworkConfig


@dataclass(frozen=True)
class FaceToolsConfig:
    """The shapes of the three face networks; a user may import a FAN and an ArcFace (`models.import_face_tools`)."""

    detector: FaceDetectorConfig = field(default_factory=FaceDetectorConfig)
    landmarks: LandmarkNetworkConfig | FanConfig = field(default_factory=LandmarkNetworkConfig)
    identity: IdentityNetworkConfig | IResNetConfig = field(default_factory=IdentityNetworkConfig)


def build_face_tools(
    config: FaceToolsConfig, matching_angle: float, load: Callable[[str, nn.Module], None]
) -> FaceAnalyzer:
    """The three tools on the CPU; `load` fills a network with the weights of the component of that name."""
    detector = FaceDetectorNetwork(config.detector)
    _fill("detector", detector, load)
    return FaceAnalyzer(
        detector=EmbeddedFaceDetector(detector),
        landmark_detector=_landmark_detector(config.landmarks, load),
        identity_encoder=_identity_encoder(config.identity, load),
        matching_angle=matching_angle,
    )


def _landmark_detector(
    config: LandmarkNetworkConfig | FanConfig, load: Callable[[str, nn.Module], None]
) -> LandmarkDetector:
    if isinstance(config, FanConfig):
        imported = fan(config)
        _fill("landmarks", imported, load)
        return FanLandmarkDetector(imported, f"FAN-{config.hourglasses}, 68 points")
    network = LandmarkNetwork(config)
    _fill("landmarks", network, load)
    return HeatmapLandmarkDetector(network, "embedded landmark network, 68 points")


def _identity_encoder(
    config: IdentityNetworkConfig | IResNetConfig, load: Callable[[str, nn.Module], None]
) -> IdentityEncoder:
    if isinstance(config, IResNetConfig):
        imported = IResNet(config)
        _fill("identity", imported, load)
        return ArcFaceIdentityEncoder(imported, f"iResNet-{config.depth}, {config.width}-d")
    network = IdentityNetwork(config)
    _fill("identity", network, load)
    return EmbeddedIdentityEncoder(network, f"embedded identity network, {config.embedding}-d")


def _fill(name: str, network: nn.Module, load: Callable[[str, nn.Module], None]) -> None:
    load(name, network)
    network.eval().requires_grad_(False)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
