import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.aligned_face import AlignedFace, align, align_largest, find_faces, to_network, to_pixels, whole_picture
from models.errors import NoFaceError
from models.face_analyzer import Landmarks
from models.geometry import FFHQ_512, five_points, scale_of
from tests.toy_faces import ANNA, BEN, ToyLandmarks, analyzer, photo, placement


@pytest.mark.parametrize(("side", "degrees"), [(300, 0), (300, 25), (120, -20), (60, 10)])
def test_a_face_lands_on_the_template(side: float, degrees: float) -> None:
    picture = photo(((240, 180), side, ANNA), degrees=degrees)
    (face,) = align(analyzer(), picture, find_faces(analyzer(), picture))
    assert face.crop.shape == (512, 512, 3) and face.crop.dtype == np.uint8
    tolerance = 1.0 + 256 / side  # a pixel of the picture is several of the crop
    np.testing.assert_allclose(five_points(face.landmarks.numpy()), FFHQ_512, atol=tolerance)
    truth = placement((240, 180), side, degrees)
    assert scale_of(face.matrix) == pytest.approx(scale_of(truth), rel=0.03)
    angle = math.degrees(math.atan2(face.matrix[1, 0], face.matrix[0, 0]) - math.atan2(truth[1, 0], truth[0, 0]))
    assert abs(angle) < 2
    assert face.attention.amax() == pytest.approx(1, abs=1e-4) and face.attention.amin() == 0
    assert face.identity.norm() == pytest.approx(1, abs=1e-5)


def test_a_large_picture_is_searched_on_a_small_copy() -> None:
    picture = photo(((1500, 900), 900, ANNA), size=(2400, 1800))
    seen = []
    tools = analyzer()
    original = tools.detector.detect
    tools.detector.detect = lambda small: seen.append(small.shape) or original(small)  # type: ignore[method-assign]
    (face,) = align(tools, picture, find_faces(tools, picture))
    assert seen == [(480, 640, 3)]
    np.testing.assert_allclose(five_points(face.landmarks.numpy()), FFHQ_512, atol=1.5)
    x0, y0, x1, y1 = face.box
    assert x0 < 1500 < x1 and y0 < 1000 < y1


def test_a_face_partly_outside_is_aligned_all_the_same() -> None:
    picture = photo(((65, 180), 300, ANNA))  # the left third of its crop lies outside
    (face,) = align(analyzer(), picture, find_faces(analyzer(), picture))
    np.testing.assert_allclose(five_points(face.landmarks.numpy()), FFHQ_512, atol=2)


def test_the_largest_comes_first() -> None:
    picture = photo(((110, 150), 150, BEN), ((340, 180), 230, ANNA))
    faces = align(analyzer(), picture, find_faces(analyzer(), picture))
    assert len(faces) == 2
    assert scale_of(faces[0].matrix) < scale_of(faces[1].matrix)
    assert not torch.allclose(faces[0].identity, faces[1].identity, atol=0.1)


def test_no_face() -> None:
    for picture in (photo(), np.zeros((1, 1, 3), np.uint8), np.zeros((1, 3000, 3), np.uint8)):
        with pytest.raises(NoFaceError, match="no face was found"):
            find_faces(analyzer(), picture)


def test_a_face_of_a_few_pixels_is_too_small() -> None:
    with pytest.raises(NoFaceError, match=r"the largest face has \d+ pixels, at least 12 are needed"):
        find_faces(analyzer(), photo(((30, 30), 16, ANNA), size=(60, 60)))


def test_a_whole_picture_of_512_is_taken_as_it_is() -> None:
    picture = photo(((255.5, 255.5), 512, ANNA), size=(512, 512))
    face = whole_picture(analyzer(), picture)
    assert np.array_equal(face.crop, picture)
    np.testing.assert_allclose(five_points(face.landmarks.numpy()), FFHQ_512, atol=1)


def test_a_whole_picture_of_another_size_is_resized() -> None:
    picture = photo(((127.5, 127.5), 256, ANNA), size=(256, 256))
    face = whole_picture(analyzer(), picture)
    assert face.crop.shape == (512, 512, 3)
    np.testing.assert_allclose(five_points(face.landmarks.numpy()), FFHQ_512, atol=1.5)


def test_resizing_moves_nothing() -> None:
    ramp = np.abs(np.arange(200) - 99.5).astype(np.uint8)  # a mirror image of itself
    picture = np.repeat(np.minimum(ramp[:, None], ramp[None])[:, :, None], 3, 2)
    crop = whole_picture(analyzer(), picture).crop.astype(int)
    assert np.abs(crop - crop[:, ::-1]).max() <= 1 and np.abs(crop - crop[::-1]).max() <= 1


def test_a_whole_picture_must_be_square_and_more_than_a_dot() -> None:
    with pytest.raises(NoFaceError, match="square, the picture has 480x360"):
        whole_picture(analyzer(), photo())
    with pytest.raises(NoFaceError, match="only 1x1"):
        whole_picture(analyzer(), np.zeros((1, 1, 3), np.uint8))


def test_pixels_survive_the_way_through_the_network_range() -> None:
    crop = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    assert np.array_equal(to_pixels(to_network([crop, crop]))[1], crop)
    assert to_network([crop]).amin() == -1 and to_network([crop]).amax() == 1
    over = to_pixels(torch.tensor([-3.0, 3.0]).view(1, 1, 1, 2).expand(1, 3, 2, 2))[0]
    assert over[0, :, 0].tolist() == [0, 255]


class VagueOnBen:
    """Landmarks that are nowhere in particular on one person, as on an object that was taken for a face."""

    name = "vague landmarks"

    def landmarks(self, crops: torch.Tensor) -> Landmarks:
        found = ToyLandmarks().landmarks(crops)
        ben = crops[:, 2, 150:190, 230:280].mean((1, 2)) > crops[:, 0, 150:190, 230:280].mean((1, 2))
        heatmaps = torch.where(ben[:, None, None, None], found.heatmaps + 0.05, found.heatmaps)
        return Landmarks(found.points, heatmaps)


def test_what_landmarks_do_not_confirm_is_no_face() -> None:
    tools = replace(analyzer(), landmark_detector=VagueOnBen())
    picture = photo(((110, 150), 150, ANNA), ((340, 180), 230, BEN))
    found = find_faces(tools, picture)
    (face,) = align(tools, picture, found)
    assert face.box == pytest.approx(found[1].box)
    assert align_largest(tools, picture, found).box == face.box
    for look in (align, align_largest):
        with pytest.raises(NoFaceError, match="none on a closer look"):
            look(tools, picture, found[:1])


class Restless:
    """Sharp landmarks that each look puts elsewhere, as on an object that was taken for a face."""

    name = "restless landmarks"

    def __init__(self, pixels: float) -> None:
        self.pixels = pixels

    def landmarks(self, crops: torch.Tensor) -> Landmarks:
        found = ToyLandmarks().landmarks(crops)
        self.pixels = -self.pixels
        return Landmarks(found.points + self.pixels * crops.shape[3] / 512, found.heatmaps)


def test_landmarks_that_never_settle_are_of_no_face() -> None:
    picture = photo(((110, 150), 150, ANNA))
    found = find_faces(analyzer(), picture)
    assert align(replace(analyzer(), landmark_detector=Restless(4)), picture, found)
    with pytest.raises(NoFaceError, match="none on a closer look"):
        align(replace(analyzer(), landmark_detector=Restless(50)), picture, found)


class OnePoint:
    """All landmarks in one place: nothing can be fitted to them."""

    name = "one point"

    def landmarks(self, crops: torch.Tensor) -> Landmarks:
        found = ToyLandmarks().landmarks(crops)
        return Landmarks(torch.full_like(found.points, 9.0), found.heatmaps)


def test_landmarks_in_one_place_are_of_no_face() -> None:
    picture = photo(((110, 150), 150, ANNA))
    with pytest.raises(NoFaceError, match="none on a closer look"):
        align(replace(analyzer(), landmark_detector=OnePoint()), picture, find_faces(analyzer(), picture))


@pytest.mark.parametrize(
    ("doubts", "turns"),
    [((0.003, 0.001, 0.001, 0.001), 0), ((0.009, 0.012, 0.0049, 0.0035), 3), ((0.006, 0.012, 0.0055, 0.009), 0)],
)
def test_a_doubtful_face_is_turned_the_way_that_leaves_least_doubt(
    monkeypatch: pytest.MonkeyPatch, doubts: tuple[float, ...], turns: int
) -> None:
    """Of too little doubt to try, a half turn that is good and another that is better, none that is good enough."""
    picture = photo(((110, 150), 150, ANNA))
    found = find_faces(analyzer(), picture)
    (face,) = align(analyzer(), picture, found)

    def aligned(_: object, __: object, detections: list[object], turn: int) -> list[tuple[float, AlignedFace]]:
        return [(doubts[turn], replace(face, box=(turn, 0, 1, 1))) for _ in detections]

    monkeypatch.setattr("models.aligned_face._found", aligned)
    assert align(analyzer(), picture, found)[0].box[0] == turns
