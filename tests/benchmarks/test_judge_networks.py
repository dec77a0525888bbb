"""What is ours of the judges' networks: how their files are read, what they are shown, how their answers are read."""

import json
import math
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import pytest
import torch

from benchmarks.dlib_descriptor import _BLOCKS, DlibDescriptor, read_tfjs_weights
from benchmarks.openseeface import CELLS, EYES, MOUTH, OF_68, POINTS, SIDE, OpenSeeFace, decode
from models import affine_landmark_distance as of_68_points
from models.errors import WeightsError
from models.geometry import Pixels
from tests.models.small_onnx import save

FACE: Pixels = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)


def output_with_peaks(rows: list[int], columns: list[int]) -> np.ndarray:
    """A network's output whose points lie in these cells, without offsets (a half is none)."""
    output = np.full((3 * POINTS, CELLS, CELLS), 0.5, np.float32)
    output[:POINTS] = 0
    output[np.arange(POINTS), rows, columns] = 1
    return output


def test_a_point_is_its_cell_and_the_offset_that_the_cell_gives() -> None:
    output = output_with_peaks([3] * POINTS, [20] * POINTS)
    output[POINTS, 3, 20] = 1 / (1 + np.exp(-16 * 0.02))  # lower by 0.02 of the side
    output[2 * POINTS, 3, 20] = 1 / (1 + np.exp(16 * 0.01))  # and 0.01 further left
    output[POINTS, 4, 20] = 0.9  # another cell's offset says nothing
    cell = (SIDE - 1) / (CELLS - 1)
    found = decode(output)
    assert found[0] == pytest.approx((20 * cell - 2.23, 3 * cell + 4.46), abs=1e-3)
    assert found[1] == pytest.approx((20 * cell, 3 * cell))


def test_an_offset_at_the_end_of_its_range_is_finite() -> None:
    output = output_with_peaks([0] * POINTS, [0] * POINTS)
    output[POINTS:] = 1
    assert np.isfinite(decode(output)).all()


@pytest.mark.parametrize(("ours", "of_68"), [(EYES, of_68_points.EYES), (MOUTH, of_68_points.MOUTH)])
def test_parts_of_the_face_are_those_that_the_68_landmarks_have(ours: tuple[int, ...], of_68: tuple[int, ...]) -> None:
    assert sorted(OF_68[point] for point in ours) == sorted(of_68)


def test_every_landmark_but_the_inner_corners_of_the_mouth_is_a_point() -> None:
    assert set(range(68)) - set(OF_68) == {60, 64} and len(OF_68) == len(set(OF_68)) == POINTS


@pytest.fixture(scope="module")
def corners(tmp_path_factory: pytest.TempPathFactory) -> OpenSeeFace:
    """A network that finds the first point in the top left corner of what it is shown and the others opposite."""
    last = [CELLS - 1] * (POINTS - 1)
    path = save(
        tmp_path_factory.mktemp("openseeface") / "lm0.onnx",
        [onnx.helper.make_node("Identity", ["answer"], ["points"])],
        (1, 3, SIDE, SIDE),
        {"points": (1, 3 * POINTS, CELLS, CELLS)},
        answer=output_with_peaks([0, *last], [0, *last])[None],
    )
    return OpenSeeFace(path)


def test_points_are_in_the_pixels_of_the_face_whatever_part_of_it_is_looked_at(corners: OpenSeeFace) -> None:
    found = corners.points(FACE, (10, 20, 110, 220))
    assert found[0].tolist() == pytest.approx([10, 20]) and found[-1].tolist() == pytest.approx([110, 220])


def test_the_second_look_takes_in_the_points_of_the_first_and_margins(corners: OpenSeeFace) -> None:
    assert corners.box(FACE) == pytest.approx((96 - 34.1, 168 - 42.75, 437 + 34.1, 510 + 42.75))
    assert torch.equal(corners.points(FACE), corners.points(FACE, corners.box(FACE)))


def test_what_is_no_network_is_told(tmp_path: Path) -> None:
    path = tmp_path / "lm0.onnx"
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"lm0\.onnx is no ONNX network"):
        OpenSeeFace(path)


def test_numbers_of_a_manifest_are_put_back_to_scale(tmp_path: Path) -> None:
    halves = np.array([0, 1, 65535], "<u2")
    plain = np.array([[1.5, -2.0]], "<f4")
    (tmp_path / "a.bin").write_bytes(bytes([0, 10, 255, 1]))
    (tmp_path / "b.bin").write_bytes(halves.tobytes()[:5])  # groups may lie in several files, cut anywhere
    (tmp_path / "c.bin").write_bytes(halves.tobytes()[5:] + plain.tobytes())
    groups = [
        {
            "paths": ["a.bin"],
            "weights": [
                quantised("bytes", [3], "uint8", scale=0.1, low=-1.0),
                quantised("one", [], "uint8", scale=2.0, low=0.5),
            ],
        },
        {
            "paths": ["b.bin", "c.bin"],
            "weights": [
                quantised("words", [3], "uint16", scale=0.5, low=0.0),
                {"name": "plain", "shape": [1, 2], "dtype": "float32"},
            ],
        },
    ]
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps(groups))
    found = read_tfjs_weights(manifest)
    assert found["bytes"].tolist() == pytest.approx([-1.0, 0.0, 24.5])
    assert found["one"].item() == 2.5
    assert found["words"].tolist() == [0.0, 0.5, 32767.5]
    assert found["plain"].tolist() == [[1.5, -2.0]]


@pytest.mark.parametrize("text", ["nonsense", "{}", "[1]", '[{"paths": ["gone.bin"], "weights": []}]'])
def test_a_broken_manifest_is_told(tmp_path: Path, text: str) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_text(text)
    with pytest.raises(WeightsError, match="manifest"):
        DlibDescriptor(manifest)


def test_a_file_that_is_cut_short_is_told(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps([{"paths": ["a.bin"], "weights": [quantised("x", [8], "uint8")]}]))
    (tmp_path / "a.bin").write_bytes(b"1234")
    with pytest.raises(WeightsError):
        read_tfjs_weights(manifest)


def test_two_faces_of_a_narrow_descriptor_have_an_angle(tmp_path: Path) -> None:
    descriptor = DlibDescriptor(narrow_descriptor(tmp_path))
    assert descriptor.describe(FACE).shape == (128,)
    assert descriptor.angle(FACE, FACE) == pytest.approx(0, abs=0.1)
    assert descriptor.angle(FACE, 255 - FACE) > 0.5
    elsewhere = FACE.copy()
    elsewhere[:140] = 0  # above what dlib would cut out
    assert descriptor.angle(FACE, elsewhere) == pytest.approx(0, abs=0.1)


def quantised(name: str, shape: list[int], dtype: str, scale: float = 1.0, low: float = 0.0) -> dict[str, object]:
    return {
        "name": name,
        "shape": shape,
        "dtype": "float32",
        "quantization": {"dtype": dtype, "scale": scale, "min": low},
    }


def narrow_descriptor(folder: Path) -> Path:
    """dlib's network with a few random channels instead of 32 to 256; gives its manifest."""
    entries, width = [], 4
    entries += convolution("conv32_down", 7, 3, width)
    for name in _BLOCKS:
        wider = 2 * width if name in ("conv64_down", "conv128_down", "conv256_down") else width
        entries += convolution(f"{name}/conv1", 3, width, wider) + convolution(f"{name}/conv2", 3, wider, wider)
        width = wider
    entries.append(quantised("fc", [width, 128], "uint8", 0.01, -1.28))
    count = sum(math.prod(cast(list[int], entry["shape"])) for entry in entries)
    (folder / "numbers.bin").write_bytes(np.random.default_rng(1).integers(0, 256, count, dtype=np.uint8).tobytes())
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps([{"paths": ["numbers.bin"], "weights": entries}]))
    return manifest


def convolution(name: str, side: int, inputs: int, outputs: int) -> list[dict[str, object]]:
    return [
        quantised(f"{name}/conv/filters", [side, side, inputs, outputs], "uint8", 0.002, -0.256),
        quantised(f"{name}/conv/bias", [outputs], "uint8", 0.001, -0.128),
        quantised(f"{name}/scale/weights", [outputs], "uint8", 0.001, 0.9),
        quantised(f"{name}/scale/biases", [outputs], "uint8", 0.001, -0.128),
    ]
