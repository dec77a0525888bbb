"""Builds a bundle's face tools: the embedded networks, or the field's networks where a user imported their weights."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from models.errors import WeightsError
from models.face_analyzer import FaceAnalyzer, FaceDetector, IdentityEncoder, LandmarkDetector
from models.face_detector import EmbeddedFaceDetector, FaceDetectorConfig, FaceDetectorNetwork
from models.fan import FanConfig, FanLandmarkDetector, fan
from models.identity_network import EmbeddedIdentityEncoder, IdentityNetwork, IdentityNetworkConfig
from models.insightface_tools import ArcFaceOnnxConfig, InsightFaceDetector, InsightFaceIdentityEncoder, ScrfdConfig
from models.iresnet import ArcFaceIdentityEncoder, IResNet, IResNetConfig
from models.landmark_network import HeatmapLandmarkDetector, LandmarkNetwork, LandmarkNetworkConfig

#: A bundle's components that are face tools; `FaceToolsConfig` has their shapes under the same names.
FACE_TOOLS = ("detector", "landmarks", "identity")


@dataclass(frozen=True)
class FaceToolsConfig:
    """The shapes of the three face networks; a user may import SCRFD, FAN and ArcFace (`models.import_face_tools`)."""

    detector: FaceDetectorConfig | ScrfdConfig = field(default_factory=FaceDetectorConfig)
    landmarks: LandmarkNetworkConfig | FanConfig = field(default_factory=LandmarkNetworkConfig)
    identity: IdentityNetworkConfig | IResNetConfig | ArcFaceOnnxConfig = field(default_factory=IdentityNetworkConfig)

    def file_of(self, tool: str) -> str:
        """The name that the component of one of `FACE_TOOLS` has in a bundle."""
        onnx = isinstance(getattr(self, tool), ScrfdConfig | ArcFaceOnnxConfig)
        return f"{tool}.onnx" if onnx else f"{tool}.safetensors"


def _no_onnx(name: str) -> Path:
    raise WeightsError(f"{name}.onnx is needed, and there are no ONNX files here")


def build_face_tools(
    config: FaceToolsConfig,
    matching_angle: float,
    load: Callable[[str, nn.Module], None],
    locate: Callable[[str], Path] = _no_onnx,
) -> FaceAnalyzer:
    """The three tools on the CPU.

    `load` fills a network with the weights of the component of that name; `locate` gives the path of an ONNX component.
    """
    return FaceAnalyzer(
        detector=_detector(config.detector, load, locate),
        landmark_detector=_landmark_detector(config.landmarks, load),
        identity_encoder=_identity_encoder(config.identity, load, locate),
        matching_angle=matching_angle,
    )


def _detector(
    config: FaceDetectorConfig | ScrfdConfig, load: Callable[[str, nn.Module], None], locate: Callable[[str], Path]
) -> FaceDetector:
    if isinstance(config, ScrfdConfig):
        return InsightFaceDetector(locate("detector"), config.threshold)
    network = FaceDetectorNetwork(config)
    _fill("detector", network, load)
    return EmbeddedFaceDetector(network)


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
    config: IdentityNetworkConfig | IResNetConfig | ArcFaceOnnxConfig,
    load: Callable[[str, nn.Module], None],
    locate: Callable[[str], Path],
) -> IdentityEncoder:
    if isinstance(config, ArcFaceOnnxConfig):
        path = locate("identity")
        encoder = InsightFaceIdentityEncoder(path)
        if encoder.width != config.width:
            raise WeightsError(f"{path}: makes embeddings of width {encoder.width}, not {config.width}")
        return encoder
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
