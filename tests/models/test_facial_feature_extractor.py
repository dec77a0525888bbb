import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.affine_landmark_distance import EYES, MOUTH, affine_landmark_distance
from models.facial_feature_extractor import (
    FacialFeatureExtractor,
    FacialFeatureExtractorConfig,
    eye_patches,
    optimal_reference,
    reference_distances,
)
from models.references import Reference, References
from tests.models.drawn_face import drawn_landmarks

SMALL = FacialFeatureExtractorConfig(prompt_width=24, patch_size=32, supersampling=2, width=16)


def pack(*batch: list[Tensor]) -> References:
    blank = torch.zeros(3, 8, 8)
    packed = References.pack([[Reference(blank, points, torch.zeros(4)) for points in own] for own in batch])
    assert packed is not None
    return packed


def test_a_patch_is_made_of_whole_cells() -> None:
    with pytest.raises(ValueError, match="30 px are not 4 cells wide"):
        replace(SMALL, patch_size=30)


def test_distance_is_the_fit_of_the_reference_to_its_image_over_eyes_and_mouth() -> None:
    landmarks = torch.stack([drawn_landmarks(1), drawn_landmarks(2)])
    references = pack([drawn_landmarks(3)], [drawn_landmarks(4), drawn_landmarks(5)])
    chosen = [*EYES, *MOUTH]
    expected = torch.stack(
        [
            affine_landmark_distance(drawn_landmarks(seed)[chosen], landmarks[image][chosen])
            for seed, image in ((3, 0), (4, 1), (5, 1))
        ]
    )
    assert torch.equal(reference_distances(landmarks, references), expected)


def test_optimal_reference_is_the_nearest_up_to_an_affine() -> None:
    face = drawn_landmarks(1)
    turned = face @ torch.tensor([[0.9, 0.2], [-0.1, 1.1]]) + torch.tensor([14.0, -30.0])
    landmarks = torch.stack([face, face, face])
    references = pack([drawn_landmarks(2), turned, drawn_landmarks(3)], [], [drawn_landmarks(4, pixels=20), face + 2])
    assert optimal_reference(landmarks, references).tolist() == [1, -1, 4]


def test_optimal_reference_does_not_fail_on_landmarks_that_define_no_affine() -> None:
    flat = torch.zeros(68, 2)
    references = pack([flat, drawn_landmarks(1)], [drawn_landmarks(2), drawn_landmarks(3)])
    landmarks = torch.stack([drawn_landmarks(1), torch.full((68, 2), math.nan)])
    assert optimal_reference(landmarks, references).tolist() == [1, 2]


def ramp(size: int = 512) -> Tensor:
    """A picture whose first channel is x and second is y, in pixels."""
    pixels = torch.arange(size, dtype=torch.float32)
    y, x = torch.meshgrid(pixels, pixels, indexing="ij")
    return torch.stack([x, y, torch.zeros_like(x)])[None]


def test_patches_show_the_persons_left_eye_and_then_the_right() -> None:
    patches = eye_patches(ramp(), drawn_landmarks()[None], SMALL)
    assert patches.shape == (1, 2, 3, 32, 32)
    centres = patches[0, :, :2].mean((-1, -2))
    torch.testing.assert_close(centres, torch.tensor([[319.0, 240.0], [193.0, 240.0]]), atol=1e-2, rtol=0)
    # Two eye widths, 120 px, across 32 patch pixels, the outermost half a step inside.
    torch.testing.assert_close(patches[0, 0, 0, 5, 31] - patches[0, 0, 0, 5, 0], torch.tensor(120.0 * 31 / 32))
    torch.testing.assert_close(patches[0, 1, 1, 31, 5] - patches[0, 1, 1, 0, 5], torch.tensor(120.0 * 31 / 32))


def test_supersampling_averages_what_would_alias() -> None:
    stripes = (ramp()[:, :1] % 2).repeat(1, 3, 1, 1) * 2 - 1
    wild = eye_patches(stripes, drawn_landmarks()[None], replace(SMALL, supersampling=1)).std()
    calm = eye_patches(stripes, drawn_landmarks()[None], replace(SMALL, supersampling=4)).std()
    assert calm < 0.2 * wild


def test_an_eye_beyond_the_edge_is_no_error() -> None:
    patches = eye_patches(ramp(), drawn_landmarks()[None] - 300, SMALL)
    assert patches.isfinite().all()
    assert patches.min() >= 0


def test_patches_are_differentiable() -> None:
    image = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0)).requires_grad_()
    landmarks = (drawn_landmarks()[None] / 512 * 48).requires_grad_()
    eye_patches(image, landmarks, replace(SMALL, patch_size=4)).square().sum().backward()
    assert image.grad is not None and landmarks.grad is not None
    assert image.grad.abs().sum() > 0
    assert landmarks.grad[0, 36:48].abs().sum() > 0
    assert not landmarks.grad[0, :36].any()


def extractor() -> FacialFeatureExtractor:
    torch.manual_seed(0)
    return FacialFeatureExtractor(SMALL)


def test_vgg16_keys_are_torchvisions() -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in extractor().vgg16.state_dict().items()}
    assert shapes == {
        "features.0.weight": (64, 3, 3, 3),
        "features.0.bias": (64,),
        "features.2.weight": (64, 64, 3, 3),
        "features.2.bias": (64,),
    }


def faces(count: int) -> tuple[Tensor, Tensor]:
    images = torch.rand(count, 3, 512, 512, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return images, torch.stack([drawn_landmarks(seed) for seed in range(count)])


def test_four_tokens_two_for_each_eye() -> None:
    images, landmarks = faces(2)
    ffe = extractor()
    tokens = ffe(images, landmarks)
    assert tokens.shape == (2, 4, 24)
    changed = images.clone()
    changed[:, :, :, 280:] = 0.3  # the person's left eye, not the right
    other = ffe(changed, landmarks)
    assert torch.equal(other[:, 2:], tokens[:, 2:])
    assert ((other[:, :2] - tokens[:, :2]).abs().amax(-1) > 1e-3).all()


def test_colour_is_pooled_before_anything_is_rectified(monkeypatch: pytest.MonkeyPatch) -> None:
    ffe, pooled = extractor(), []
    pool = ffe._pool
    monkeypatch.setattr(ffe, "_pool", lambda features: (pooled.append(features), pool(features))[1])
    ffe(*faces(1))
    colour, structure = pooled
    assert colour.min() < 0 and structure.min() < 0


def test_tokens_do_not_depend_on_batch_mates() -> None:
    images, landmarks = faces(3)
    ffe = extractor()
    together = ffe(images, landmarks)
    for i in range(3):
        alone = ffe(images[i : i + 1], landmarks[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-5)


def test_a_flat_patch_has_finite_gradients() -> None:
    images = torch.zeros(1, 3, 512, 512, requires_grad=True)
    extractor()(images, drawn_landmarks()[None]).square().sum().backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()
