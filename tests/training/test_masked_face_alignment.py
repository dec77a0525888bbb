import pytest
import torch
from torch import Tensor

from models.attention_map import attention_map
from training.masked_face_alignment import attention_mask, masked_distance


def absolute(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs().mean()


def image(value: float = 0.2) -> Tensor:
    return torch.full((1, 3, 64, 64), value)


def mask() -> Tensor:
    """Of two landmarks, both in the middle of a picture of which the outer cells are exactly zero."""
    maps = torch.zeros(1, 2, 16, 16)
    maps[0, 0, 7, 7] = 1.0
    maps[0, 1, 8, 8] = 0.5
    return attention_mask(maps, 64)


def test_the_mask_is_the_attention_map_with_the_papers_k() -> None:
    heatmaps = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(attention_mask(heatmaps, 16)[:, 0], attention_map(heatmaps))


def test_equal_images_have_no_distance() -> None:
    assert float(masked_distance(image(), image(), mask(), absolute)) == 0


def test_changes_outside_the_mask_do_not_count() -> None:
    changed = image()
    changed[:, :, :20] = -0.9
    changed[:, :, :, 48:] = 0.7
    assert float(masked_distance(changed, image(), mask(), absolute)) == 0


def test_changes_under_the_mask_do() -> None:
    changed = image()
    changed[:, :, 30, 30] = -0.9
    assert float(masked_distance(changed, image(), mask(), absolute)) > 0


def test_both_images_are_grey_outside_the_mask() -> None:
    seen: list[Tensor] = []

    def keep(a: Tensor, b: Tensor) -> Tensor:
        seen.extend((a, b))
        return (a - b).mean()

    masked_distance(image(0.2), image(0.6), mask(), keep)
    restored, truth = seen
    for blended in seen:
        assert not blended[:, :, 0, 0].any()
    # the peak falls between four pixels: bilinear, they get most of it
    share = float(restored[0, 0, 30, 30]) / 0.2
    assert 0.75 < share <= 1
    assert float(truth[0, 0, 30, 30]) / 0.6 == pytest.approx(share, abs=1e-5)


def test_gradients_reach_the_restored_image() -> None:
    restored = image(0.3).requires_grad_()
    masked_distance(restored, image(), mask(), absolute).backward()
    assert restored.grad is not None
    assert restored.grad[0, 0, 30, 30] > 0 and restored.grad[0, 0, 2, 2] == 0
