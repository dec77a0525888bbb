"""A face recogniser from an ONNX file as a differentiable network: a teacher, or f_i of the identity loss (Eq. 8)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from models.errors import WeightsError
from models.geometry import Pixels, arcface_crop

Attributes = dict[str, Any]


class RecogniserConfig(BaseModel):
    """An ONNX file, exported with a batch of one, and how it wants its pixels: ((0..255) - mean) / std in RGB or BGR.

    ArcFace: mean and std 127.5; AdaFace: the same in BGR; SFace normalises by itself: 0 and 1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path
    mean: float = 127.5
    std: float = 127.5
    bgr: bool = False


class OnnxRecogniser(nn.Module):
    """Embeds FFHQ-512-aligned faces (`models.face_analyzer.IdentityEncoder`); frozen, gradients reach the pictures."""

    def __init__(self, config: RecogniserConfig) -> None:
        import onnx

        super().__init__()
        self.config = config
        try:
            graph = onnx.load(str(config.path)).graph
        except Exception as error:  # onnx, protobuf and the file system each have exceptions of their own
            raise WeightsError(f"{config.path} is no ONNX network: {error}") from error
        constants = _constants(graph)
        self.nodes = [
            (node.op_type, list(node.input), node.output[0], _attributes(node))
            for node in graph.node
            if node.output[0] not in constants
        ]
        if unknown := {op for op, *_ in self.nodes} - set(OPERATIONS):
            raise WeightsError(f"{config.path}: no such operations here: {', '.join(sorted(unknown))}")
        self.source = next(entry.name for entry in graph.input if entry.name not in constants)
        used = {name for _, inputs, _, _ in self.nodes for name in inputs}
        # names in the file may hold dots, which a module's buffers may not
        self.slots = {name: f"constant_{number}" for number, name in enumerate(sorted(used & set(constants)))}
        for name, slot in self.slots.items():
            self.register_buffer(slot, torch.from_numpy(np.array(constants[name], np.float32)))
        self.result = graph.output[0].name

    @property
    def name(self) -> str:
        return self.config.path.stem

    @property
    def width(self) -> int:
        return int(self(torch.zeros(1, 3, 112, 112)).shape[1])

    def forward(self, crops: Tensor) -> Tensor:
        """The file's output for its own kind of input `[B, 3, 112, 112]`."""
        values: dict[str, Tensor] = {self.source: crops}
        for operation, inputs, output, attributes in self.nodes:
            arguments = [values[n] if n in values else getattr(self, self.slots[n]) for n in inputs if n]
            values[output] = OPERATIONS[operation](arguments, attributes)
        return values[self.result]

    def embed(self, faces: Tensor) -> Tensor:
        """Unit embeddings `[B, d]` of faces `[B, 3, 512, 512]` in [-1, 1]."""
        return self._embed((arcface_crop(faces).float() + 1) * 127.5)

    @torch.inference_mode()
    def describe(self, crop: Pixels) -> NDArray[np.float32]:
        """The unit embedding `[d]` of an ArcFace-112 crop `[112, 112, 3]`."""
        described: NDArray[np.float32] = self._embed(torch.tensor(crop).permute(2, 0, 1)[None].float())[0].numpy()
        return described

    def _embed(self, crops: Tensor) -> Tensor:
        pixels = (crops - self.config.mean) / self.config.std
        return F.normalize(self(pixels.flip(1) if self.config.bgr else pixels).float(), dim=1)


def _constants(graph: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Initialisers, and all that nodes make of them alone (quantised weights, say), by name."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    known = {entry.name for entry in graph.initializer}
    nodes = []
    for node in graph.node:
        if all(name in known for name in node.input if name) and node.op_type != "Dropout":
            nodes.append(node)
            known |= set(node.output)
    wanted = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in sorted(known)]
    fixed = onnx.helper.make_graph(nodes, "constants", [], wanted, graph.initializer)
    model = onnx.helper.make_model(fixed, opset_imports=[onnx.helper.make_opsetid("", 21)])
    values = ReferenceEvaluator(model).run(None, {})
    return dict(zip(sorted(known), values, strict=True))


def _attributes(node: Any) -> Attributes:
    import onnx

    return {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}


def _convolution(x: list[Tensor], a: Attributes) -> Tensor:
    top, left, bottom, right = a.get("pads", (0, 0, 0, 0))
    padded = F.pad(x[0], (left, right, top, bottom))
    bias = x[2] if len(x) > 2 else None
    return F.conv2d(padded, x[1], bias, a.get("strides", 1), 0, a.get("dilations", 1), a.get("group", 1))


def _batch_norm(x: list[Tensor], a: Attributes) -> Tensor:
    return F.batch_norm(x[0], x[3], x[4], x[1], x[2], eps=a.get("epsilon", 1e-5))


def _max_pool(x: list[Tensor], a: Attributes) -> Tensor:
    if any(a.get("pads", (0,))) or a.get("ceil_mode"):
        raise WeightsError("MaxPool with a rim is not among the operations here")
    return F.max_pool2d(x[0], a["kernel_shape"], a.get("strides", 1))


def _reshape(x: list[Tensor], _: Attributes) -> Tensor:
    """To the file's shape, whose first number, its batch of one, is left to the batch at hand."""
    return x[0].reshape(len(x[0]), *map(int, x[1][1:]))


def _l2_norm(x: list[Tensor], a: Attributes) -> Tensor:
    axes = a["axes"] if len(x) == 1 else x[1].int().tolist()  # from opset 18 on they are an input
    lengths: Tensor = torch.linalg.vector_norm(x[0], dim=axes, keepdim=bool(a.get("keepdims", 1)))
    return lengths


#: What the recognisers of the field (iResNet, AdaFace, MobileFaceNet) are made of.
OPERATIONS: dict[str, Callable[[list[Tensor], Attributes], Tensor]] = {
    "Conv": _convolution,
    "BatchNormalization": _batch_norm,
    "PRelu": lambda x, _: F.prelu(x[0], x[1].flatten()),
    "Relu": lambda x, _: x[0].relu(),
    "Add": lambda x, _: x[0] + x[1],
    "Sub": lambda x, _: x[0] - x[1],
    "Mul": lambda x, _: x[0] * x[1],
    "Div": lambda x, _: x[0] / x[1],
    "Dropout": lambda x, _: x[0],
    "Flatten": lambda x, a: x[0].flatten(a.get("axis", 1)),
    "Reshape": _reshape,
    "ReduceL2": _l2_norm,
    "MaxPool": _max_pool,
    "GlobalAveragePool": lambda x, _: x[0].mean((2, 3), keepdim=True),
    "Gemm": lambda x, a: F.linear(x[0], x[1] if a.get("transB") else x[1].T, x[2]),
}
