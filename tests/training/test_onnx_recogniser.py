from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession
from torch import Tensor, nn

from models.errors import WeightsError
from training.onnx_recogniser import OPERATIONS, OnnxRecogniser, RecogniserConfig


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


def sface_like(path: Path) -> OnnxRecogniser:
    return OnnxRecogniser(RecogniserConfig(path=path, mean=0, std=1))


def test_it_computes_what_onnxruntime_does(tmp_path: Path) -> None:
    path = recogniser_file(tmp_path / "r.onnx")
    images = torch.rand(2, 3, 112, 112) * 255
    session = InferenceSession(str(path), providers=["CPUExecutionProvider"])
    expected = np.concatenate([session.run(None, {"image": image[None].numpy()})[0] for image in images])
    recogniser = OnnxRecogniser(RecogniserConfig(path=path))
    assert np.allclose(recogniser(images).numpy(), expected, rtol=1e-4, atol=1e-4)
    assert recogniser.width == 5 and recogniser.name == "r"


class SmallAdaFace(nn.Module):
    """What sets AdaFace's published network apart from ArcFace's: pooled shortcuts, a view, a norm of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.PReLU(8))
        self.shortcut = nn.MaxPool2d(1, 4)
        self.head = nn.Linear(8 * 14 * 14, 6)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        pooled = self.shortcut(self.body(x))
        found = self.head(pooled.view(pooled.size(0), -1))
        norm = torch.norm(found, 2, 1, True)
        return torch.div(found, norm), norm


@pytest.mark.parametrize("opset", [17, 18])
def test_adaface(tmp_path: Path, opset: int) -> None:
    """From opset 18 on the axes of a norm are an input."""
    network, path = SmallAdaFace().eval(), tmp_path / "adaface.onnx"
    values = {key: value.numpy() for key, value in network.state_dict().items()}
    axes = {"axes": [1]} if opset < 18 else {}
    nodes = [
        helper.make_node("Conv", ["image", "body.0.weight"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node(
            "BatchNormalization",
            ["a", "body.1.weight", "body.1.bias", "body.1.running_mean", "body.1.running_var"],
            ["b"],
        ),
        helper.make_node("PRelu", ["b", "slope"], ["c"]),
        helper.make_node("MaxPool", ["c"], ["d"], kernel_shape=[1, 1], strides=[4, 4]),
        helper.make_node("Reshape", ["d", "shape"], ["e"]),
        helper.make_node("Gemm", ["e", "head.weight", "head.bias"], ["f"], transB=1),
        helper.make_node("ReduceL2", ["f", *([] if axes else ["axes"])], ["norm"], **axes),
        helper.make_node("Div", ["f", "norm"], ["embedding"]),
    ]
    values |= {"slope": values["body.2.weight"][:, None, None], "shape": np.array([1, -1]), "axes": np.array([1])}
    graph = helper.make_graph(
        nodes,
        "adaface",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 112, 112])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("embedding", "norm")],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10), path)
    images = torch.rand(3, 3, 112, 112)
    with torch.no_grad():
        expected, _ = network(images)
    assert torch.allclose(OnnxRecogniser(RecogniserConfig(path=path))(images), expected, atol=1e-5)


def test_a_pool_with_a_rim_is_refused() -> None:
    with pytest.raises(WeightsError, match="rim"):
        OPERATIONS["MaxPool"]([torch.zeros(1, 1, 4, 4)], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]})


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
