"""What the shipped weights are held to: no seams and no tile that repeats in a face, blurred faces found, grey kept,
grain taken away."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from skimage.data import astronaut
from torch import Tensor

from models.aligned_face import align, find_faces, to_network
from models.bundle import load_bundle
from models.colour_fix import ColourFix
from models.face_restorer import FaceRestorer, Options
from models.geometry import Pixels
from models.picture import Picture
from training.seam_loss import seam_loss
from training.stages.detector import box_overlap


def mean_tile(pictures: Tensor) -> float:
    """Deviation of what repeats every 16 pixels, in grey levels; 0.6 on the astronaut's face itself."""
    detail = pictures - F.avg_pool2d(pictures, 17, 1, 8, count_include_pad=False)
    return float(detail.unfold(2, 16, 16).unfold(3, 16, 16).mean((2, 3)).std() * 127.5)


def test_the_measure_finds_a_tile() -> None:
    tile = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 5 / 127.5
    assert mean_tile(tile.repeat(1, 1, 16, 16)) == pytest.approx(5, rel=0.1)
    assert mean_tile(tile.repeat_interleave(16, 2).repeat_interleave(16, 3)) < 0.5


@pytest.mark.parametrize("side", [171, 512])
@torch.inference_mode()
def test_a_restored_face_has_neither(side: int) -> None:
    photo = Image.fromarray(astronaut()).resize((side, side), Image.Resampling.BOX).resize((512, 512))  # type: ignore[no-untyped-call]
    bundle = load_bundle()
    pixels = np.asarray(photo)
    (face,) = align(bundle.analyzer, pixels, find_faces(bundle.analyzer, pixels))
    restored = bundle.generator(to_network([face.crop])).restored[:, :, 128:384, 128:384]
    assert seam_loss(restored) < 0.06  # the eighth edition: 0.3
    assert mean_tile(restored) < 2


@pytest.mark.parametrize("pixels", [20, 24, 32, 48])
def test_a_face_of_few_pixels_is_found_however_much_it_was_enlarged(pixels: int) -> None:
    face = Image.fromarray(astronaut()).crop((110, 20, 340, 250)).resize((pixels, pixels), Image.Resampling.BOX)  # type: ignore[no-untyped-call]
    detector = load_bundle().analyzer.detector
    (found,) = detector.detect(np.asarray(face.resize((512, 512))))
    assert box_overlap(np.array(found.box), np.array([(150, 150, 357, 355)])) > 0.6


@torch.inference_mode()
def test_a_black_and_white_portrait_comes_back_black_and_white() -> None:
    """The network alone gives it skin and blue eyes."""
    bundle = load_bundle()
    grey = np.asarray(Image.fromarray(astronaut()).resize((171, 171)).convert("L").resize((512, 512)).convert("RGB"))  # type: ignore[no-untyped-call]
    restorer = FaceRestorer(bundle.generator, bundle.analyzer)

    def colour(fix: ColourFix) -> float:
        crop = restorer.restore(Picture(grey), [], Options(color_fix=fix)).faces[0].crop.astype(float)
        return float(np.abs(crop - crop.mean(2, keepdims=True)).mean())

    assert colour("none") > 1
    assert colour("wavelet") < 0.4  # rounding


@torch.inference_mode()
def test_grain_is_taken_away() -> None:
    bundle = load_bundle()
    photo = np.ascontiguousarray(astronaut())  # type: ignore[no-untyped-call]
    (face,) = align(bundle.analyzer, photo, find_faces(bundle.analyzer, photo))
    grain = 25 * np.random.default_rng(0).standard_normal(face.crop.shape)
    grainy = (face.crop + grain).clip(0, 255).round().astype(np.uint8)
    restorer = FaceRestorer(bundle.generator, bundle.analyzer)
    restored = restorer.restore(Picture(grainy), [], Options(faces="aligned")).picture.pixels

    def error(picture: Pixels) -> float:
        return float(np.sqrt(np.mean((picture.astype(float) - face.crop) ** 2)))

    assert error(restored) < 0.56 * error(grainy)  # 0.15.0: 0.69
