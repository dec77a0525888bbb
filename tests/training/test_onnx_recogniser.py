from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from models.errors import WeightsError
from training.onnx_recogniser import OnnxRecogniser, RecogniserConfig


def recogniser_file(path: Path, last: str = "Gemm") -> Path:
    """A few operations of each kind; the first convolution's weight is stored in eight bits."""
    rng = np.random.default_rng(0)
    values = {
        "mean": np.float32(127.5),
        "quantised": rng.integers(-100, 100, (4, 3, 3, 3)).astype(np.int8),
        "scale": np.float32(1e-3),
        "zero": np.int8(3),
        "slope": rng.random((4, 1, 1)).astype(np.float32),
        "gamma": rng.random(4).astype(np.float32),
        "beta": rng.random(4).astype(np.float32),
        "running_mean": rng.random(4).astype(np.float32),
        "running_var": rng.random(4).astype(np.float32) + 0.5,
        "head": rng.standard_normal((5, 4 * 28 * 28)).astype(np.float32),
        "bias": rng.standard_normal(5).astype(np.float32),
    }
    nodes = [
        helper.make_node("Sub", ["image", "mean"], ["centred"]),
        helper.make_node("DequantizeLinear", ["quantised", "scale", "zero"], ["weight"]),
        helper.make_node("Conv", ["centred", "weight"], ["a"], strides=[4, 4], pads=[1, 1, 0, 0], kernel_shape=[3, 3]),
        helper.make_node("PRelu", ["a", "slope"], ["b"]),
        helper.make_node("BatchNormalization", ["b", "gamma", "beta", "running_mean", "running_var"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node(last, ["d", "head", "bias"], ["e"], **({"transB": 1} if last == "Gemm" else {})),
    ]
    graph = helper.make_graph(
        nodes,
        "recogniser",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 112, 112])],
        [helper.make_tensor_value_info("e", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def test_it_computes_what_onnxruntime_does(tmp_path: Path) -> None:
    path = recogniser_file(tmp_path / "r.onnx")
    images = torch.rand(2, 3, 112, 112) * 255
    session = InferenceSession(str(path), providers=["CPUExecutionProvider"])
    expected = np.concatenate([session.run(None, {"image": image[None].numpy()})[0] for image in images])
    recogniser = OnnxRecogniser(RecogniserConfig(path=path))
    assert np.allclose(recogniser(images).numpy(), expected, rtol=1e-4, atol=1e-4)
    assert recogniser.width == 5 and recogniser.name == "r"


def test_pixels_as_the_file_wants_them(tmp_path: Path) -> None:
    path = recogniser_file(tmp_path / "r.onnx")
    faces = torch.rand(1, 3, 512, 512) * 2 - 1
    plain = OnnxRecogniser(RecogniserConfig(path=path, mean=0, std=1))
    swapped = OnnxRecogniser(RecogniserConfig(path=path, mean=0, std=1, bgr=True))
    assert torch.allclose(plain.embed(faces), swapped.embed(faces.flip(1)), atol=1e-6)
    assert torch.allclose(plain.embed(faces).norm(dim=1), torch.ones(1))


def test_gradients_reach_the_faces_alone(tmp_path: Path) -> None:
    recogniser = OnnxRecogniser(RecogniserConfig(path=recogniser_file(tmp_path / "r.onnx")))
    faces = (torch.rand(1, 3, 512, 512) * 2 - 1).requires_grad_()
    recogniser.embed(faces)[:, 0].sum().backward()
    assert faces.grad is not None and faces.grad.abs().sum() > 0
    assert not list(recogniser.parameters())


def test_no_network_and_unknown_operations(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"nothing of the kind")
    for path in (damaged, tmp_path / "nowhere.onnx"):
        with pytest.raises(WeightsError, match="is no ONNX network"):
            OnnxRecogniser(RecogniserConfig(path=path))
    with pytest.raises(WeightsError, match="no such operations here: LayerNormalization"):
        OnnxRecogniser(RecogniserConfig(path=recogniser_file(tmp_path / "r.onnx", last="LayerNormalization")))
