"""Small ONNX files like those of insightface's packs: an SCRFD that finds red squares, an ArcFace of one matrix."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

SIDE = 64


def save(
    path: Path,
    nodes: list[Any],
    shape: Sequence[int | str],
    outputs: dict[str, Sequence[int | str]],
    **constants: Any,
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


def save_scrfd(path: Path, side: int = SIDE, dynamic: bool = False) -> Path:
    """Two anchors a cell at strides 8, 16, 32; the cells of 32 px score by their redness, with boxes of 32 px around
    the cell's corner; the others score nothing. `dynamic`: as the published files, `side` is not written in it."""
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
    anchors = {stride: 2 * (side // stride) ** 2 for stride in (8, 16, 32)}
    rows: dict[int, int | str] = {stride: f"rows{stride}" if dynamic else count for stride, count in anchors.items()}
    outputs: dict[str, Sequence[int | str]] = {f"score{stride}": (count, 1) for stride, count in rows.items()}
    outputs |= {f"box{stride}": (count, 4) for stride, count in rows.items()}
    constants = {f"c_score{s}": np.zeros((anchors[s], 1), np.float32) for s in (8, 16)}
    constants |= {f"c_box{s}": np.full((anchors[s], 4), 0.5, np.float32) for s in anchors}
    return save(
        path,
        nodes,
        (1, 3, "height", "width") if dynamic else (1, 3, side, side),
        outputs,
        mean_red=mean_red,
        column=np.array([-1, 1], np.int64),
        nothing=np.zeros((anchors[32] // 2, 1), np.float32),
        **constants,
    )


def save_arcface(path: Path, width: int = 8) -> Tensor:
    """The matrix `[3 * 112 * 112, width]` that the file multiplies a crop with."""
    matrix = np.random.default_rng(0).normal(size=(3 * 112 * 112, width)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"], name="flat"),
        helper.make_node("MatMul", ["flat", "matrix"], ["embedding"], name="embed"),
    ]
    save(path, nodes, (1, 3, 112, 112), {"embedding": (1, width)}, matrix=matrix)
    return torch.from_numpy(matrix)
