import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.face_analyzer import Detection
from models.face_detector import (
    EmbeddedFaceDetector,
    FaceDetectorConfig,
    FaceDetectorNetwork,
    cell_centres,
    covered_share,
    suppress_overlaps,
)

SMALL = FaceDetectorConfig(widths=(8, 8, 8, 8), neck=8)
#: A logit: the detector does not turn the picture.
SURE_OF_IT = 3.0


def network_that_fires(config: FaceDetectorConfig = SMALL) -> FaceDetectorNetwork:
    """Every cell of stride 32 sees a face of 64 px around its centre, the others see none."""
    network = FaceDetectorNetwork(config)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    for level, score in enumerate((-9.0, -9.0, 3.0)):
        network.head[level][-1].bias.data[0] = score
    return network.requires_grad_(False)


class FixedNetwork(FaceDetectorNetwork):
    """Answers with given scores and boxes, whatever it sees."""

    def __init__(self, logits: list[float], boxes: list[tuple[float, ...]]) -> None:
        super().__init__(SMALL)
        self.answer = torch.tensor([logits]), torch.tensor([boxes])
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.seen.append(images)
        return self.answer


def test_all_cells_of_three_strides() -> None:
    scores, boxes = network_that_fires()(torch.zeros(2, 3, 64, 96))
    cells = 8 * 12 + 4 * 6 + 2 * 3
    assert scores.shape == (2, cells) and boxes.shape == (2, cells, 4)
    assert (scores[:, -6:] == 3).all() and (scores[:, :-6] == -9).all()
    assert boxes[0, -6].tolist() == [-16, -16, 48, 48]
    assert boxes[0, -1].tolist() == [48, 16, 112, 80]
    assert boxes[0, 0].tolist() == [-4, -4, 12, 12]


def test_an_untrained_network_sees_no_face() -> None:
    torch.manual_seed(0)
    picture = np.random.default_rng(0).integers(0, 256, (100, 140, 3), dtype=np.uint8)
    assert EmbeddedFaceDetector(FaceDetectorNetwork(FaceDetectorConfig())).detect(picture) == []


def test_cell_centres_go_row_by_row() -> None:
    assert cell_centres(2, 3, 8).tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]


def test_boxes_are_in_the_pixels_of_the_picture() -> None:
    detector = EmbeddedFaceDetector(network_that_fires())
    assert [found.box for found in detector.detect(np.zeros((32, 32, 3), np.uint8))] == [(-16, -16, 48, 48)]
    shrunk = EmbeddedFaceDetector(network_that_fires(FaceDetectorConfig((8,) * 4, 8, long_side=64)))
    boxes = [found.box for found in shrunk.detect(np.zeros((128, 256, 3), np.uint8))]
    assert sorted(boxes) == [(-64, -64, 192, 192), (64, -64, 320, 192)]
    assert all(isinstance(value, float) for box in boxes for value in box)


@pytest.mark.parametrize(("overlap", "kept"), [(0.5, 4), (0.3, 2), (0.1, 1)])
def test_neighbours_that_overlap_too_much_are_dropped(overlap: float, kept: int) -> None:
    config = FaceDetectorConfig((8,) * 4, 8, overlap=overlap)
    detector = EmbeddedFaceDetector(network_that_fires(config))
    found = detector.detect(np.zeros((64, 64, 3), np.uint8))
    assert len(found) == kept
    assert all(face.score == pytest.approx(torch.tensor(3.0).sigmoid().item()) for face in found)


def test_what_has_no_face_is_looked_at_again_at_half_the_size() -> None:
    network = FixedNetwork([-9.0], [(0.0, 0, 10, 10)])
    detector = EmbeddedFaceDetector(network)
    assert detector.detect(np.zeros((300, 640, 3), np.uint8)) == []
    assert [tuple(seen.shape[2:]) for seen in network.seen[:4]] == [(320, 640), (160, 320), (96, 160), (64, 96)]
    assert len(network.seen) == 4 * 4, "as much in each quarter turn"
    network.seen.clear()
    assert detector.detect(np.zeros((150, 159, 3), np.uint8)) == [] and len(network.seen) == 4


def test_a_face_that_only_the_smaller_picture_shows_is_in_the_pixels_of_the_larger() -> None:
    class SeesSmall(FixedNetwork):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            scores, boxes = super().forward(images)
            return (scores if images.shape[3] == 128 else scores - 99), boxes

    network = SeesSmall([SURE_OF_IT], [(10.0, 20, 40, 60)])
    (face,) = EmbeddedFaceDetector(network).detect(np.zeros((512, 512, 3), np.uint8))
    assert face.box == (40, 80, 160, 240)
    assert len(network.seen) == 3


def turned_detector(upright: float, *turned: float) -> tuple[EmbeddedFaceDetector, list[tuple[int, ...]]]:
    """Sees one face with these scores in the picture and its quarter turns, and what it was shown."""
    scores, shown = [upright, *turned], []

    class InTurns(EmbeddedFaceDetector):
        def _detect(self, picture: np.ndarray) -> list[Detection]:
            shown.append(picture.shape)
            score = scores[len(shown) - 1]
            return [Detection((10.0, 20.0, 30.0, 50.0), score)] if score else []

    return InTurns(FaceDetectorNetwork(SMALL)), shown


@pytest.mark.parametrize(
    ("scores", "box"),
    [
        ((0, 0.9, 0, 0), (400 - 50, 10, 400 - 20, 30)),  # the turned picture is 400 px high, the face lies on its left
        ((0, 0, 0.71, 0), (400 - 30, 200 - 50, 400 - 10, 200 - 20)),
        ((0.7, 0, 0.75, 0.9), (20, 200 - 30, 50, 200 - 10)),
        ((0.7, 0.85, 0.84, 0.84), (400 - 50, 10, 400 - 20, 30)),
    ],
)
def test_a_turned_face_is_in_the_pixels_of_the_picture(scores: tuple[float, ...], box: tuple[float, ...]) -> None:
    detector, shown = turned_detector(*scores)
    (face,) = detector.detect(np.zeros((200, 400, 3), np.uint8))
    assert face.box == pytest.approx(box) and face.score == max(scores)
    assert shown == [(200, 400, 3), (400, 200, 3)] * 2


def test_who_is_sure_does_not_turn_the_picture() -> None:
    detector, shown = turned_detector(0.86)
    assert len(detector.detect(np.zeros((200, 400, 3), np.uint8))) == len(shown) == 1


def test_a_turn_of_a_picture_without_faces_counts_where_it_is_rather_sure() -> None:
    detector, shown = turned_detector(0, 0.69, 0.65, 0.69)
    assert detector.detect(np.zeros((200, 400, 3), np.uint8)) == []
    assert len(shown) == 4


def test_a_turn_that_is_hardly_surer_does_not_count() -> None:
    detector, _ = turned_detector(0.7, 0.79, 0, 0.78)
    (face,) = detector.detect(np.zeros((200, 400, 3), np.uint8))
    assert (face.box, face.score) == ((10, 20, 30, 50), 0.7)


def test_the_most_confident_comes_first_and_the_doubtful_is_left_out() -> None:
    boxes = [(0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0), (40.0, 0.0, 50.0, 10.0), (1.0, 0.0, 11.0, 10.0)]
    found = EmbeddedFaceDetector(FixedNetwork([1.0, 4.0, -0.1, 0.5], boxes)).detect(np.zeros((64, 64, 3), np.uint8))
    assert [face.box for face in found] == [boxes[1], boxes[0]]
    assert found[0].score > found[1].score > 0.5


@pytest.mark.parametrize(
    ("size", "seen"), [((1, 1), (32, 32)), ((33, 64), (64, 64)), ((2000, 3), (640, 32)), ((500, 1000), (320, 640))]
)
def test_any_size_is_shrunk_and_padded_to_whole_cells(size: tuple[int, int], seen: tuple[int, int]) -> None:
    network = FixedNetwork([-5.0], [(0.0, 0.0, 1.0, 1.0)])
    assert EmbeddedFaceDetector(network).detect(np.full((*size, 3), 255, np.uint8)) == []
    assert network.seen[0].shape == (1, 3, *seen)
    assert float(network.seen[0].max()) == 1.0


def test_suppression_keeps_the_better_box() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [9, 0, 19, 10], [30, 0, 40, 10]], np.float32)
    assert suppress_overlaps(boxes, 0.35) == [0, 2, 3]
    assert suppress_overlaps(boxes[:0], 0.35) == []


def test_a_small_box_inside_a_face_is_no_face_of_its_own() -> None:
    face, mouth = [0, 0, 100, 100], [40, 60, 60, 72]
    boxes = np.array([face, mouth], np.float32)
    assert suppress_overlaps(boxes, 0.5) == suppress_overlaps(boxes[::-1], 0.5) == [0]
    assert covered_share(boxes[0], boxes) == pytest.approx([1, 1])
    assert covered_share(boxes[0], np.array([[90, 0, 110, 50]], np.float32)) == pytest.approx([0.5])
