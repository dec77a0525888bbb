import base64
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from models.aligned_face import AlignedFace, to_network, whole_picture
from models.errors import GeometryError
from models.geometry import warp
from models.honesty_report import HonestyReport, honesty_report
from models.references import Reference
from tests.toy_faces import ANNA, BEN, TEMPLATE, analyzer, photo


def face(skin: tuple[int, int, int] = ANNA) -> AlignedFace:
    return whole_picture(analyzer(), photo(((255.5, 255.5), 512, skin), size=(512, 512)))


def reference(skin: tuple[int, int, int] = ANNA, landmarks: np.ndarray = TEMPLATE) -> Reference:
    shown = face(skin)
    return Reference(to_network([shown.crop])[0], torch.from_numpy(landmarks).float(), shown.identity)


def report(*references: Reference, restored: np.ndarray | None = None) -> HonestyReport:
    subject = face()
    return honesty_report(analyzer(), subject, subject.crop if restored is None else restored, references)


def test_an_unchanged_face_reads_zero_everywhere() -> None:
    result = report()
    assert result.references == () and result.chosen_reference is None
    for number in (
        result.affine_landmark_distance_eyes,
        result.affine_landmark_distance_mouth,
        result.landmark_distance,
        result.identity_angle,
        result.colour_shift,
        result.mean_change,
    ):
        assert number == pytest.approx(0, abs=1e-4)
    assert result.change_map.shape == (512, 512) and not result.change_map.any()
    assert result.attention_map.max() == pytest.approx(1, abs=1e-4)
    assert (result.landmark_network, result.identity_network) == ("toy landmarks", "toy identity")


def test_a_moved_face_has_l2_but_no_affine_distance() -> None:
    moved = warp(face().crop, [(1, 0, 6), (0, 1, -8)], (512, 512))
    result = report(restored=moved)
    assert result.landmark_distance == pytest.approx(10, abs=0.2)
    assert result.affine_landmark_distance_eyes < 0.01 and result.affine_landmark_distance_mouth < 0.01


def test_a_bent_mouth_is_the_mouths() -> None:
    subject = face()
    bent = subject.landmarks.clone()
    bent[48:68, 1] += 0.01 * (bent[48:68, 0] - 256) ** 2
    result = honesty_report(analyzer(), replace(subject, landmarks=bent), subject.crop, [])
    assert result.affine_landmark_distance_mouth > 10 > result.affine_landmark_distance_eyes


def test_identity_angle_is_the_arccosine_in_degrees() -> None:
    one, other = face(ANNA).identity, face(BEN).identity
    result = report(reference(BEN), restored=face(BEN).crop)
    expected = math.degrees(math.acos(float(one @ other)))
    assert result.identity_angle == pytest.approx(expected, abs=0.01)
    assert result.references[0].angle_to_input == pytest.approx(expected, abs=0.01)
    assert result.references[0].angle_to_restored == pytest.approx(0, abs=0.1)


def test_change_map_is_the_mean_absolute_change_in_grey_levels() -> None:
    restored = face().crop.copy()
    restored[10, 20] += np.array([3, 6, 9], np.uint8)
    result = report(restored=restored)
    assert result.change_map[10, 20] == pytest.approx(6) and result.change_map.sum() == pytest.approx(6)
    assert result.mean_change == pytest.approx(6 / 512**2)


def test_the_chosen_reference_is_that_of_equation_6() -> None:
    bent = TEMPLATE.copy()
    bent[17:27, 1] -= 0.02 * (bent[17:27, 0] - 256) ** 2 / 10
    result = report(reference(landmarks=bent), reference(landmarks=1.2 * TEMPLATE + 7))
    assert result.chosen_reference == 1
    assert result.references[0].affine_landmark_distance > 10 > result.references[1].affine_landmark_distance


def test_a_reference_of_somebody_else_is_flagged() -> None:
    result = report(reference(ANNA), reference(BEN))
    assert [one.wrong_person for one in result.references] == [False, True]
    assert result.identity_legible
    assert [one.wrong_person for one in report(reference(BEN)).references] == [True]


def test_a_face_that_cannot_be_read_leaves_the_question_open() -> None:
    result = report(reference(BEN), restored=face(BEN).crop)
    assert not result.identity_legible
    assert result.references[0].wrong_person is None


def test_summary_is_json_and_carries_units_and_names() -> None:
    summary = json.loads(json.dumps(report(reference(), restored=face(BEN).crop).summary()))
    assert "change_map" not in summary
    assert summary["landmark_distance"]["by"] == "toy landmarks" and summary["landmark_distance"]["unit"].startswith(
        "px"
    )
    assert summary["identity_angle"]["by"] == "toy identity" and summary["identity_angle"]["unit"] == "degrees"
    assert "stand-in for MS-SWD" in summary["colour_shift"]["by"]
    numbers = [value for value in summary.values() if isinstance(value, dict)]
    assert len(numbers) >= 6 and all(set(number) == {"value", "unit", "by"} for number in numbers)


def test_each_number_of_the_summary_is_the_one_it_is_called() -> None:
    result = report(reference())
    of_reference = {"affine_landmark_distance": 1.0, "angle_to_input": 2.0, "angle_to_restored": 3.0}
    of_face = {
        "affine_landmark_distance_eyes": 4.0,
        "affine_landmark_distance_mouth": 5.0,
        "landmark_distance": 6.0,
        "identity_angle": 7.0,
        "matching_angle": 8.0,
        "colour_shift": 9.0,
        "mean_change": 10.0,
    }
    evidence = replace(result.references[0], **of_reference)
    summary = replace(result, references=(evidence,), **of_face).summary()
    written = summary | summary["references"][0]  # type: ignore[index]
    for name, value in (of_reference | of_face).items():
        assert (written.get(name) or written["identity_" + name])["value"] == value, name


def test_full_adds_the_maps_as_png() -> None:
    restored = face().crop.copy()
    restored[100:200, 100:200] = 255 - restored[100:200, 100:200]
    result = report(restored=restored)
    full = json.loads(json.dumps(result.full()))
    change = np.asarray(Image.open(io.BytesIO(base64.b64decode(full["change_map"]["png"]))))
    assert np.abs(change - result.change_map).max() <= 0.5
    attention = np.asarray(Image.open(io.BytesIO(base64.b64decode(full["attention_map"]["png"]))))
    assert attention.shape == (64, 64) and attention.max() == 255


def test_what_is_infinitely_far_is_null_in_json() -> None:
    flat = np.zeros((68, 2))
    summary = report(reference(landmarks=flat)).summary()
    assert '"value": null' in json.dumps(summary, allow_nan=False)
    with pytest.raises(GeometryError):
        reference(landmarks=np.full((68, 2), np.nan))
