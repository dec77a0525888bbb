"""insightface's detector and ArcFace as face tools: local ONNX files, run by onnxruntime; nothing is downloaded.

Needs `pip install honestface[facetools]`. The published packs are for non-commercial research.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.errors import HonestFaceError, WeightsError
from models.face_analyzer import Detection
from models.geometry import ARCFACE_SIZE, arcface_crop


def _open(path: Path, task: str, device: str) -> Any:
    """insightface's model of a local file, which must be one for `task`."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    if path.suffix != ".onnx":
        raise WeightsError(f"{path}: insightface's networks are .onnx files")
    try:
        from insightface.model_zoo import get_model
    except ImportError as error:
        raise HonestFaceError(f"insightface is needed ({error}): pip install honestface[facetools]") from None
    providers = ["CPUExecutionProvider"]
    if device.startswith("cuda"):
        index = int(device.partition(":")[2] or 0)
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": index}))  # type: ignore[arg-type]
    try:
        # An absolute path: for anything else insightface looks into its own folder in the user's home.
        model = get_model(str(path.resolve()), providers=providers)
    except Exception as error:  # onnxruntime's and protobuf's errors share no base
        raise WeightsError(f"{path}: not an ONNX network that can be run ({error})") from None
    found = getattr(model, "taskname", "none that insightface knows")
    if found != task:
        raise WeightsError(f"{path}: made for {found}, not for {task}")
    return model


class InsightFaceDetector:
    """A detector of insightface's packs (SCRFD) as a `FaceDetector`.

    The picture is fitted into `size` (width, height) before detection, unless the file fixes another size.
    """

    def __init__(
        self, path: Path, size: tuple[int, int] = (640, 640), threshold: float = 0.5, device: str = "cpu"
    ) -> None:
        self._name = f"insightface {path.stem}"
        self._size = size
        self._model = _open(path, "detection", device)
        self._model.det_thresh = threshold

    @property
    def name(self) -> str:
        return self._name

    def detect(self, picture: NDArray[np.uint8]) -> list[Detection]:
        bgr = np.ascontiguousarray(picture[:, :, ::-1])
        found, _ = self._model.detect(bgr, input_size=self._size)
        return [
            Detection((float(x0), float(y0), float(x1), float(y1)), float(score))
            for x0, y0, x1, y1, score in sorted(found.tolist(), key=lambda row: -row[4])
        ]


class InsightFaceIdentityEncoder:
    """An ArcFace ONNX file as an `IdentityEncoder`; no gradients: `models.iresnet` is the differentiable one."""

    def __init__(self, path: Path, device: str = "cpu") -> None:
        self._name = f"insightface {path.stem}"
        self._model = _open(path, "recognition", device)
        if tuple(self._model.input_size) != (ARCFACE_SIZE, ARCFACE_SIZE):
            raise WeightsError(f"{path}: takes pictures of {self._model.input_size}, not of 112 x 112 pixels")
        self._width = self._embed(np.zeros((3, ARCFACE_SIZE, ARCFACE_SIZE), np.float32)).size

    @property
    def name(self) -> str:
        return self._name

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
