"""insightface's detector and ArcFace as face tools: local ONNX files, run by onnxruntime; nothing is downloaded.

Needs `pip install honestface[facetools]`. The published packs are for non-commercial research.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.errors import HonestFaceError, WeightsError
from models.face_analyzer import Detection
from models.geometry import ARCFACE_SIZE, arcface_crop

#: Width and height that a picture is fitted into before detection, unless the file fixes another size.
DETECTION_SIZE = (640, 640)
#: Long side over short side; in a longer strip no face would keep enough pixels, and the short side might keep none.
LONGEST_STRIP = 64


@dataclass(frozen=True)
class ScrfdConfig:
    """A detector of insightface's packs; faces that score `threshold` (0..1) or more are kept."""

    threshold: float = 0.5
    kind: Literal["scrfd"] = "scrfd"


@dataclass(frozen=True)
class ArcFaceOnnxConfig:
    """An ArcFace of insightface's packs; `width` is the embedding's."""

    width: int
    kind: Literal["arcface_onnx"] = "arcface_onnx"


def _open(path: Path, task: str) -> Any:
    """insightface's model of a local file, which must be one for `task`."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    if path.suffix != ".onnx":
        raise WeightsError(f"{path}: insightface's networks are .onnx files")
    try:
        import onnx
        from insightface.model_zoo import get_model
        from onnx.external_data_helper import _get_all_tensors, uses_external_data
    except ImportError as error:
        raise HonestFaceError(f"insightface is needed ({error}): pip install honestface[facetools]") from None
    try:
        tensors = _get_all_tensors(onnx.load(str(path), load_external_data=False))
        outside = any(uses_external_data(tensor) for tensor in tensors)  # a bundle vouches for its own files alone
        # An absolute path: for anything else insightface looks into its own folder in the user's home.
        model = None if outside else get_model(str(path.resolve()), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's and protobuf's errors share no base
        raise _unusable(path, error) from None
    if outside:
        raise WeightsError(f"{path}: keeps its weights in other files: save them in the .onnx file itself")
    found = getattr(model, "taskname", "none that insightface knows")
    if found != task:
        raise WeightsError(f"{path}: made for {found}, not for {task}")
    return model


def _unusable(path: Path, error: Exception) -> WeightsError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return WeightsError(f"{path}: not an ONNX network that can be run ({reason})")


class InsightFaceDetector:
    """A detector of insightface's packs (SCRFD) as a `FaceDetector`."""

    def __init__(self, path: Path, threshold: float = 0.5) -> None:
        self._model = _open(path, "detection")
        self._model.det_thresh = threshold
        try:
            self.detect(np.zeros((64, 64, 3), np.uint8))  # shows that it runs, and what is read later is read now
        except Exception as error:
            raise _unusable(path, error) from None

    def detect(self, picture: NDArray[np.uint8]) -> list[Detection]:
        if max(picture.shape[:2]) > LONGEST_STRIP * min(picture.shape[:2]):
            return []
        bgr = np.ascontiguousarray(picture[:, :, ::-1])
        found, _ = self._model.detect(bgr, input_size=DETECTION_SIZE)
        return [
            Detection((float(x0), float(y0), float(x1), float(y1)), float(score))
            for x0, y0, x1, y1, score in sorted(found.tolist(), key=lambda row: -row[4])
        ]


class InsightFaceIdentityEncoder:
    """An ArcFace ONNX file as an `IdentityEncoder`; no gradients: `models.iresnet` is the differentiable one."""

    def __init__(self, path: Path) -> None:
        self._model = _open(path, "recognition")
        if tuple(self._model.input_size) != (ARCFACE_SIZE, ARCFACE_SIZE):
            raise WeightsError(f"{path}: takes pictures of {self._model.input_size}, not of 112 x 112 pixels")
        try:
            self._width = self._embed(np.zeros((3, ARCFACE_SIZE, ARCFACE_SIZE), np.float32)).size
        except Exception as error:
            raise _unusable(path, error) from None

    @property
    def name(self) -> str:
        return f"ArcFace (ONNX), {self._width}-d"

    @property
    def width(self) -> int:
        return self._width

    def _embed(self, crop: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embedding of one crop `[3, 112, 112]`, RGB in 0..255; one by one, as some files fix their batch at one."""
        embedding: NDArray[np.float32] = self._model.forward(crop[None])[0]
        return embedding

    @torch.no_grad()
    def embed(self, faces: Tensor) -> Tensor:
        crops = (arcface_crop(faces.float()).clamp(-1, 1) * 127.5 + 127.5).cpu().numpy()
        embeddings = torch.from_numpy(np.stack([self._embed(crop) for crop in crops]))
        return F.normalize(embeddings, dim=1).to(faces.device)
