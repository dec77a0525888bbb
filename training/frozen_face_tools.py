"""The landmark detector and the identity encoder that restoration learns with: frozen, of a bundle or of two runs."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from models.bundle import read_manifest
from models.errors import HonestFaceError
from models.face_analyzer import IdentityEncoder, LandmarkDetector
from models.face_tools import build_face_tools
from models.identity_network import EmbeddedIdentityEncoder, IdentityNetwork, IdentityNetworkConfig
from models.insightface_tools import ArcFaceOnnxConfig
from models.landmark_network import HeatmapLandmarkDetector, LandmarkNetwork, LandmarkNetworkConfig
from training.components import load_component


@dataclass(frozen=True, eq=False)
class FrozenFaceTools:
    """The two tools, None where the settings name none, and their networks, for the trainer to move."""

    landmark_detector: LandmarkDetector | None
    identity_encoder: IdentityEncoder | None
    networks: nn.ModuleList


def frozen_face_tools(bundle: Path | None, landmarks: Path | None, identity: Path | None) -> FrozenFaceTools:
    """Those of a bundle, or else of the files of a landmarks and an identity run.

    Raises:
        HonestFaceError: the bundle's identity network is an ONNX file, or a file is missing or does not fit.
    """
    if bundle:
        return _of_bundle(bundle)
    networks = nn.ModuleList()
    detector: LandmarkDetector | None = None
    encoder: IdentityEncoder | None = None
    if landmarks:
        network = LandmarkNetwork(LandmarkNetworkConfig())
        load_component(network, landmarks)
        networks.append(network)
        detector = HeatmapLandmarkDetector(network, "landmarks")
    if identity:
        recogniser = IdentityNetwork(IdentityNetworkConfig())
        load_component(recogniser, identity)
        networks.append(recogniser)
        encoder = EmbeddedIdentityEncoder(recogniser, "identity")
    return FrozenFaceTools(detector, encoder, networks.requires_grad_(False))


def _of_bundle(folder: Path) -> FrozenFaceTools:
    manifest = read_manifest(folder)
    if isinstance(manifest.face_tools.identity, ArcFaceOnnxConfig):
        raise HonestFaceError(
            f"{folder}: the identity network is an ONNX file, which gives no gradients (Eq. 8): "
            "import the .pt weights of arcface_torch instead (honestface bundle import-arcface)"
        )
    networks: dict[str, nn.Module] = {}

    def load(name: str, network: nn.Module) -> None:
        load_component(network, folder / f"{name}.safetensors")
        networks[name] = network

    tools = build_face_tools(manifest.face_tools, manifest.matching_angle, load, lambda name: folder / f"{name}.onnx")
    frozen = nn.ModuleList([networks["landmarks"], networks["identity"]]).requires_grad_(False)
    return FrozenFaceTools(tools.landmark_detector, tools.identity_encoder, frozen)
