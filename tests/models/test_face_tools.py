from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.data import astronaut, coffee
from torch import nn

from models.aligned_face import align, find_faces
from models.bundle import load_bundle
from models.errors import NoFaceError, WeightsError
from models.face_detector import FaceDetectorConfig
from models.face_tools import FACE_TOOLS, FaceToolsConfig, build_face_tools
from models.identity_network import IdentityNetworkConfig
from models.insightface_tools import ArcFaceOnnxConfig, InsightFaceDetector, InsightFaceIdentityEncoder, ScrfdConfig
from models.iresnet import IResNetConfig
from models.landmark_network import LandmarkNetworkConfig
from tests.models.small_onnx import save_arcface, save_scrfd

SMALL = FaceToolsConfig(
    detector=FaceDetectorConfig(widths=(8, 8, 8, 8), neck=8),
    landmarks=LandmarkNetworkConfig(size=64, widths=(8, 8, 8, 8)),
    identity=IdentityNetworkConfig(widths=(8, 8, 8, 8), blocks=(1, 1, 1, 1), embedding=8),
)


def test_every_network_is_filled_frozen_and_in_evaluation_mode() -> None:
    filled: dict[str, nn.Module] = {}
    analyzer = build_face_tools(SMALL, 60.0, filled.__setitem__)
    assert list(filled) == ["detector", "landmarks", "identity"]
    for network in filled.values():
        assert not network.training and not any(p.requires_grad for p in network.parameters())
    assert analyzer.matching_angle == 60.0
    assert [tool.name for tool in (analyzer.landmark_detector, analyzer.identity_encoder)] == [
        "embedded landmark network, 68 points",
        "embedded identity network, 8-d",
    ]


def test_the_three_tools_answer() -> None:
    analyzer = build_face_tools(SMALL, 60.0, lambda name, network: None)
    faces = torch.zeros(2, 3, 512, 512)
    assert analyzer.detector.detect(np.zeros((64, 64, 3), np.uint8)) == []
    assert analyzer.landmark_detector.landmarks(faces).points.shape == (2, 68, 2)
    assert analyzer.identity_encoder.embed(faces).shape == (2, analyzer.identity_encoder.width) == (2, 8)


def test_an_imported_arcface_takes_the_place_of_the_embedded_network() -> None:
    config = FaceToolsConfig(identity=IResNetConfig((1, 1, 1, 1), channels=(4, 4, 4, 4), width=16))
    analyzer = build_face_tools(config, 70.0, lambda name, network: None)
    assert analyzer.identity_encoder.name == "iResNet-10, 16-d"
    assert analyzer.identity_encoder.width == 16


def test_onnx_files_take_the_place_of_embedded_networks(tmp_path: Path) -> None:
    save_scrfd(tmp_path / "detector.onnx")
    save_arcface(tmp_path / "identity.onnx")
    config = replace(SMALL, detector=ScrfdConfig(), identity=ArcFaceOnnxConfig(8))
    assert [config.file_of(tool) for tool in FACE_TOOLS] == ["detector.onnx", "landmarks.safetensors", "identity.onnx"]
    filled: dict[str, nn.Module] = {}
    analyzer = build_face_tools(config, 70.0, filled.__setitem__, lambda name: tmp_path / f"{name}.onnx")
    assert list(filled) == ["landmarks"]
    assert isinstance(analyzer.detector, InsightFaceDetector)
    assert isinstance(analyzer.identity_encoder, InsightFaceIdentityEncoder)
    with pytest.raises(WeightsError, match=r"identity\.onnx: makes embeddings of width 8, not 9"):
        build_face_tools(
            replace(SMALL, identity=ArcFaceOnnxConfig(9)),
            70.0,
            lambda name, network: None,
            lambda name: tmp_path / f"{name}.onnx",
        )
    with pytest.raises(WeightsError, match=r"detector\.onnx is needed"):
        build_face_tools(config, 70.0, lambda name, network: None)


@pytest.mark.parametrize("turns", [1, 2])
def test_a_face_on_its_side_or_head_is_aligned_upright(turns: int) -> None:
    analyzer = load_bundle().analyzer
    upright, turned = astronaut(), np.ascontiguousarray(np.rot90(astronaut(), turns))
    (one,), (other,) = (align(analyzer, picture, find_faces(analyzer, picture)) for picture in (upright, turned))
    assert np.abs(one.crop.astype(int) - other.crop).mean() < 25
    assert np.abs(one.crop.astype(int) - np.rot90(other.crop, turns)).mean() > 40


def test_objects_that_the_shipped_detector_takes_for_faces_are_left_out() -> None:
    analyzer = load_bundle().analyzer
    (face,) = align(analyzer, astronaut(), find_faces(analyzer, astronaut()))
    assert face.box[0] < 220 < face.box[2] and face.box[1] < 120 < face.box[3]
    with pytest.raises(NoFaceError, match="none on a closer look"):
        align(analyzer, coffee(), find_faces(analyzer, coffee()))
