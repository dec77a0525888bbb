import pytest
import torch
from torch import Tensor

from training.masked_face_alignment import masked_face_alignment


def absolute(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs().mean()


def image(value: float = 0.2) -> Tensor:
    return torch.full((1, 3, 64, 64), value)


def heatmaps() -> Tensor:
    """Two landmarks, both in the middle of a picture of which the outer cells are exactly zero."""
    maps = torch.zeros(1, 2, 16, 16)
    maps[0, 0, 7, 7] = 1.0
    maps[0, 1, 8, 8] = 0.5
    return maps


def test_equal_images_have_no_distance() -> None:
    assert float(masked_face_alignment(image(), image(), heatmaps(), absolute)) == 0


def test_changes_outside_the_mask_do_not_count() -> None:
    changed = image()
    changed[:, :, :20] = -0.9
    changed[:, :, :, 48:] = 0.7
    assert float(masked_face_alignment(changed, image(), heatmaps(), absolute)) == 0


def test_changes_under_the_mask_do() -> None:
    changed = image()
    changed[:, :, 30, 30] = -0.9
    assert float(masked_face_alignment(changed, image(), heatmaps(), absolute)) > 0


def test_both_images_are_blended_with_the_background() -> None:
    seen: list[Tensor] = []

    def keep(a: Tensor, b: Tensor) -> Tensor:
        seen.extend((a, b))
        return (a - b).mean()

    masked_face_alignment(image(0.2), image(0.6), heatmaps(), keep, background=-0.5)
    restored, truth = seen
    for blended in seen:
        assert torch.allclose(blended[:, :, 0, 0], torch.tensor(-0.5))
    # the peak falls between four pixels: bilinear, they get most of it
    share = (restored[0, 0, 30, 30] + 0.5) / 0.7
    assert 0.75 < float(share) <= 1
    assert float((truth[0, 0, 30, 30] + 0.5) / 1.1) == pytest.approx(float(share), abs=1e-5)


def test_k_widens_the_mask() -> None:
    weaker = heatmaps()
    weaker[0, :, 4, 4] = 0.1
    changed = image()
    changed[:, :, 18, 18] = -0.9
    low, high = (float(masked_face_alignment(changed, image(), weaker, absolute, k=k)) for k in (1.0, 100.0))
    assert 0 < low < high


def test_gradients_reach_the_restored_image() -> None:
    restored = image(0.3).requires_grad_()
    masked_face_alignment(restored, image(), heatmaps(), absolute).backward()
    assert restored.grad is not None
    assert restored.grad[0, 0, 30, 30] > 0 and restored.grad[0, 0, 2, 2] == 0
