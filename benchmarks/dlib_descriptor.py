"""dlib's face descriptor as a judge that nothing here was trained on: the angle between two faces.

Davis King's dlib_face_recognition_resnet_model_v1 (CC0) as face-api.js ships it (MIT; npm @vladmandic/face-api, folder
model): a manifest, face_recognition_model-weights_manifest.json, and beside it the numbers, one byte each.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from models.errors import WeightsError
from models.geometry import Pixels

Weights = dict[str, Tensor]

#: Side of the picture that it takes.
SIDE = 150
#: x0, y0, x1, y1 of the square of an FFHQ-512-aligned face that comes nearest to what dlib itself would cut out.
CHIP = (86, 145, 426, 485)
_MEAN = (122.782, 117.001, 104.298)
_BLOCKS = (
    *("conv32_1", "conv32_2", "conv32_3"),
    *("conv64_down", "conv64_1", "conv64_2", "conv64_3"),
    *("conv128_down", "conv128_1", "conv128_2"),
    *("conv256_down", "conv256_1", "conv256_2", "conv256_down_out"),
)
_TYPES = {"uint8": "u1", "uint16": "<u2", "float32": "<f4"}


def read_tfjs_weights(manifest: Path) -> Weights:
    """The tensors that a TensorFlow.js manifest lists, by name, in float32; quantised ones are put back to scale.

    Raises:
        WeightsError: the manifest or one of its files is missing, or is not what it should be.
    """
    weights: Weights = {}
    try:
        for group in json.loads(manifest.read_text(encoding="utf-8")):
            numbers = b"".join((manifest.parent / Path(name).name).read_bytes() for name in group["paths"])
            start = 0
            for entry in group["weights"]:
                quantised = entry.get("quantization")
                kind = np.dtype(_TYPES[(quantised or entry)["dtype"]])
                count = math.prod(entry["shape"])
                values = np.frombuffer(numbers, kind, count, start).astype(np.float32)
                start += count * kind.itemsize
                if quantised:
                    values = values * np.float32(quantised["scale"]) + np.float32(quantised["min"])
                weights[entry["name"]] = torch.from_numpy(values.reshape(entry["shape"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{manifest} is no TensorFlow.js manifest with its files beside it: {error}") from None
    return weights


class DlibDescriptor:
    """Describes faces by a residual network of 29 layers; less than 0.6 apart are one person, in dlib's words."""

    def __init__(self, manifest: Path) -> None:
        self.weights = read_tfjs_weights(manifest)
        try:
            self.describe(np.zeros((512, 512, 3), np.uint8))
        except (KeyError, RuntimeError) as error:
            raise WeightsError(f"{manifest} is not dlib's face descriptor: {error}") from None

    def angle(self, one: Pixels, other: Pixels) -> float:
        """Degrees between the descriptors of two FFHQ-512-aligned faces."""
        cosine = F.cosine_similarity(self.describe(one), self.describe(other), dim=0)
        return math.degrees(math.acos(float(cosine.clamp(-1, 1))))

    @torch.inference_mode()
    def describe(self, face: Pixels) -> Tensor:
        """The descriptor `[128]` of an FFHQ-512-aligned face."""
        chip = Image.fromarray(face).crop(CHIP).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        return self.network(torch.from_numpy(np.array(chip)).permute(2, 0, 1)[None].float())[0]

    def network(self, chips: Tensor) -> Tensor:
        """`[B, 128]` of pictures `[B, 3, 150, 150]`, RGB in 0..255."""
        x = (chips - torch.tensor(_MEAN).view(1, 3, 1, 1)) / 255
        x = F.max_pool2d(self._convolution(x, "conv32_down", stride=2, padding=0).relu(), 3, 2)
        for name in _BLOCKS:
            down = "down" in name
            first = self._convolution(x, f"{name}/conv1", stride=2 if down else 1, padding=0 if down else 1).relu()
            second = self._convolution(first, f"{name}/conv2", stride=1, padding=1)
            x = (second + x if not down else _padded_sum(second, F.avg_pool2d(x, 2))).relu()
        return x.mean((2, 3)) @ self.weights["fc"]

    def _convolution(self, x: Tensor, name: str, stride: int, padding: int) -> Tensor:
        filters = self.weights[f"{name}/conv/filters"].permute(3, 2, 0, 1)
        x = F.conv2d(x, filters, self.weights[f"{name}/conv/bias"], stride, padding)
        scale, shift = (self.weights[f"{name}/scale/{which}"].view(1, -1, 1, 1) for which in ("weights", "biases"))
        return x * scale + shift


def _padded_sum(one: Tensor, other: Tensor) -> Tensor:
    """The sum of two `[B, C, H, W]`, each filled up with zeros at its end to the larger size."""
    size = [max(sides) for sides in zip(one.shape, other.shape, strict=True)]
    filled = torch.zeros(size, dtype=one.dtype)
    for x in (one, other):
        filled[:, : x.shape[1], : x.shape[2], : x.shape[3]] += x
    return filled
