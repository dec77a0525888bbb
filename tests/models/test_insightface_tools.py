"""The adapters with small ONNX files made here: an SCRFD that finds red squares, an ArcFace of one matrix."""

import builtins
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from models.errors import HonestFaceError, WeightsError
from models.face_analyzer import FaceDetector, IdentityEncoder
from models.geometry import arcface_crop
from models.insightface_tools import InsightFaceDetector, InsightFaceIdentityEncoder

SIDE = 64


def save(
    path: Path, nodes: list[Any], shape: Sequence[int], outputs: dict[str, Sequence[int]], **constants: Any
) -> Path:
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


@pytest.fixture(scope="module")
def scrfd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two anchors a cell at strides 8, 16, 32; the cells of 32 px score by their redness, with boxes of 32 px around
    the cell's corner; the others score nothing."""
    mean_red = np.zeros((1, 3, 32, 32), np.float32)
    mean_red[0, 0] = 1 / 32**2
    nodes = [
        helper.make_node("Conv", ["input", "mean_red"], ["red"], strides=[32, 32]),
        helper.make_node("Reshape", ["red", "column"], ["cells"]),
        helper.make_node("Concat", ["cells", "nothing"], ["pairs"], axis=1),
        helper.make_node("Reshape", ["pairs", "column"], ["score32"]),
        *(
            helper.make_node("Identity", [f"c_{name}"], [name])
            for name in ("score8", "score16", "box8", "box16", "box32")
        ),
    ]
    anchors = {stride: 2 * (SIDE // stride) ** 2 for stride in (8, 16, 32)}
    outputs = {f"score{s}": (n, 1) for s, n in anchors.items()} | {f"box{s}": (n, 4) for s, n in anchors.items()}
    constants = {f"c_score{s}": np.zeros((anchors[s], 1), np.float32) for s in (8, 16)}
    constants |= {f"c_box{s}": np.full((anchors[s], 4), 0.5, np.float32) for s in anchors}
    return save(
        tmp_path_factory.mktemp("onnx") / "det.onnx",
        nodes,
        (1, 3, SIDE, SIDE),
        outputs,
        mean_red=mean_red,
        column=np.array([-1, 1], np.int64),
        nothing=np.zeros((4, 1), np.float32),
        **constants,
    )


@pytest.fixture(scope="module")
def arcface(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor]:
    matrix = np.random.default_rng(0).normal(size=(3 * 112 * 112, 8)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"], name="flat"),
        helper.make_node("MatMul", ["flat", "matrix"], ["embedding"], name="embed"),
    ]
    path = tmp_path_factory.mktemp("onnx") / "rec.onnx"
    save(path, nodes, (1, 3, 112, 112), {"embedding": (1, 8)}, matrix=matrix)
    return path, torch.from_numpy(matrix)


def test_detector_finds_red_faces_most_confident_first(scrfd: Path) -> None:
    detector: FaceDetector = InsightFaceDetector(scrfd)
    assert detector.name == "insightface det"
    picture = np.zeros((128, 128, 3), np.uint8)  # twice the network's side: boxes come back in the picture's pixels
    picture[64:, :64, 0] = 240
    picture[64:, 64:, 0] = 255
    picture[:64, :64, 2] = 255
    found = detector.detect(picture)
    assert [face.box for face in found] == [(32.0, 32.0, 96.0, 96.0), (-32.0, 32.0, 32.0, 96.0)]
    assert found[0].score == pytest.approx((255 - 127.5) / 128, abs=0.01)
    assert found[1].score == pytest.approx((240 - 127.5) / 128, abs=0.01)
    assert detector.detect(np.zeros((50, 80, 3), np.uint8)) == []


def test_detector_keeps_what_passes_its_threshold(scrfd: Path) -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, :, 0] = 200
    assert len(InsightFaceDetector(scrfd, threshold=0.5).detect(picture)) == 4
    assert InsightFaceDetector(scrfd, threshold=0.6).detect(picture) == []


def test_identity_encoder_embeds_rgb_crops(arcface: tuple[Path, torch.Tensor]) -> None:
    path, matrix = arcface
    encoder: IdentityEncoder = InsightFaceIdentityEncoder(path)
    assert (encoder.name, encoder.width) == ("insightface rec", 8)
    faces = torch.rand(3, 3, 512, 512) * 2 - 1
    expected = torch.nn.functional.normalize(arcface_crop(faces).flatten(1) @ matrix, dim=1)
    assert torch.allclose(encoder.embed(faces), expected, atol=1e-4)


def test_only_local_files_of_the_right_kind(scrfd: Path, arcface: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        InsightFaceDetector(Path("buffalo_l"))
    with pytest.raises(WeightsError, match="not for recognition"):
        InsightFaceIdentityEncoder(scrfd)
    with pytest.raises(WeightsError, match="not for detection"):
        InsightFaceDetector(arcface[0])
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(scrfd.read_bytes()[:500])
    with pytest.raises(WeightsError, match=r"broken\.onnx"):
        InsightFaceDetector(broken)
    other = tmp_path / "weights.pth"
    other.write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"\.onnx files"):
        InsightFaceDetector(other)


def test_missing_library_names_the_extra(scrfd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("insightface"):
            raise ImportError("No module named 'insightface'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(HonestFaceError, match=r"pip install honestface\[facetools\]"):
        InsightFaceDetector(scrfd)
