"""The adapters with small ONNX files made here (`tests.models.small_onnx`)."""

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from models.errors import HonestFaceError, WeightsError
from models.face_analyzer import FaceDetector, IdentityEncoder
from models.geometry import arcface_crop
from models.insightface_tools import InsightFaceDetector, InsightFaceIdentityEncoder
from tests.models.small_onnx import save, save_arcface, save_scrfd


@pytest.fixture(scope="module")
def scrfd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_scrfd(tmp_path_factory.mktemp("onnx") / "det.onnx")


@pytest.fixture(scope="module")
def arcface(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor]:
    path = tmp_path_factory.mktemp("onnx") / "rec.onnx"
    return path, save_arcface(path)


def test_detector_finds_red_faces_most_confident_first(scrfd: Path) -> None:
    detector: FaceDetector = InsightFaceDetector(scrfd)
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


def test_a_network_of_any_size_finds_the_same_and_needs_its_file_no_more(tmp_path: Path) -> None:
    detector = InsightFaceDetector(save_scrfd(tmp_path / "det.onnx", 640, dynamic=True))
    (tmp_path / "det.onnx").unlink()
    picture = np.zeros((640, 640, 3), np.uint8)
    picture[320:352, 96:128, 0] = 255
    assert [face.box for face in detector.detect(picture)] == [(80.0, 304.0, 112.0, 336.0)]


@pytest.mark.parametrize("shape", [(1, 65, 3), (2000, 2, 3), (1, 1, 3), (1, 64, 3)])
def test_nothing_is_found_in_strips_and_points(scrfd: Path, shape: tuple[int, int, int]) -> None:
    assert InsightFaceDetector(scrfd).detect(np.zeros(shape, np.uint8)) == []


def test_identity_encoder_embeds_rgb_crops(arcface: tuple[Path, torch.Tensor]) -> None:
    path, matrix = arcface
    encoder: IdentityEncoder = InsightFaceIdentityEncoder(path)
    assert (encoder.name, encoder.width) == ("ArcFace (ONNX), 8-d", 8)
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
    broken.write_bytes(b"no network")
    with pytest.raises(WeightsError, match=r"broken\.onnx: not an ONNX network") as caught:
        InsightFaceIdentityEncoder(broken)
    assert "\n" not in str(caught.value)
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


def test_weights_in_another_file_are_refused(arcface: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    split = tmp_path / "split.onnx"
    onnx.save(onnx.load(str(arcface[0])), str(split), save_as_external_data=True, location="weights.bin")
    assert (tmp_path / "weights.bin").exists()
    with pytest.raises(WeightsError, match=r"split\.onnx: keeps its weights in other files"):
        InsightFaceIdentityEncoder(split)


def test_a_network_that_opens_but_does_not_run(tmp_path: Path) -> None:
    """It reads as a recogniser; what it multiplies does not fit a crop."""
    nodes = [
        helper.make_node("Reshape", ["input", "fives"], ["row"], name="row"),
        helper.make_node("Flatten", ["row"], ["embedding"], name="flat"),
    ]
    path = tmp_path / "rec.onnx"
    save(path, nodes, ("batch", 3, 112, 112), {"embedding": ("batch", 8)}, fives=np.array([-1, 5], np.int64))
    with pytest.raises(WeightsError, match=r"rec\.onnx: not an ONNX network that can be run") as caught:
        InsightFaceIdentityEncoder(path)
    assert "\n" not in str(caught.value)
