"""The shipped weights leave nothing of the network's strides in a face: seams between patches, a tile that repeats."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from skimage.data import astronaut
from torch import Tensor

from models.aligned_face import align, find_faces, to_network
from models.bundle import load_bundle
from training.seam_loss import seam_loss


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
