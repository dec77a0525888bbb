import math

import pytest
import torch
from torch import Tensor

from models.reference_warp import ReferenceWarpConfig, displacement_field, warp_reference
from tests.models.drawn_face import drawn_landmarks

CONFIG = ReferenceWarpConfig()


def dots(landmarks: Tensor, size: int = 512) -> Tensor:
    """Pictures `[B, 3, S, S]` with a soft dot at one landmark of each row `[B, 2]`."""
    pixels = torch.arange(size, dtype=torch.float32)
    y, x = torch.meshgrid(pixels, pixels, indexing="ij")
    square = (x - landmarks[:, 0, None, None]) ** 2 + (y - landmarks[:, 1, None, None]) ** 2
    return (square / -18).exp()[:, None].repeat(1, 3, 1, 1)


def middles(pictures: Tensor) -> Tensor:
    pixels = torch.arange(pictures.shape[-1], dtype=torch.float32)
    mass = pictures[:, 0] / pictures[:, 0].sum((-1, -2), keepdim=True)
    return torch.stack([(mass.sum(1) * pixels).sum(-1), (mass.sum(2) * pixels).sum(-1)], -1)


def picture(count: int = 1, size: int = 512) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize(("size", "tolerance"), [(512, 0.0), (128, 0.0), (200, 1e-4)])
def test_nothing_moves_where_landmarks_agree(size: int, tolerance: float) -> None:
    landmarks = drawn_landmarks(1)[None] * size / 512
    image = picture(size=size)
    torch.testing.assert_close(warp_reference(image, landmarks, landmarks), image, rtol=0, atol=tolerance)


def smile() -> Tensor:
    """The drawn face, turned a little and with raised corners of the mouth."""
    target = drawn_landmarks() @ torch.tensor([[0.97, 0.06], [-0.04, 1.02]]) + torch.tensor([12.0, -18.0])
    target[48:68, 1] -= 0.12 * (target[48:68, 0] - target[51, 0]).abs()
    return target


def test_what_is_seen_at_a_landmark_comes_to_lie_on_its_target() -> None:
    source, target = drawn_landmarks(), smile()
    before = (source - target).norm(dim=-1)
    chosen = [8, 19, 30, 37, 45, 48, 51, 54, 57]
    rows = len(chosen)
    warped = warp_reference(dots(source[chosen]), source.expand(rows, -1, -1), target.expand(rows, -1, -1))
    after = (middles(warped) - target[chosen]).norm(dim=-1)
    assert before[chosen].mean() > 9
    assert after.mean() < 0.1 * before[chosen].mean()
    assert after.max() < 2.5


def test_the_face_does_not_fold() -> None:
    field = displacement_field(drawn_landmarks()[None], smile()[None], CONFIG, 512)[0]
    step = 512 / CONFIG.cells
    down, across = torch.gradient(field, spacing=step, dim=(1, 2))
    jacobian = (1 + across[0]) * (1 + down[1]) - across[1] * down[0]
    assert jacobian.min() > 0.5


def test_far_from_the_face_nothing_moves() -> None:
    source = drawn_landmarks()[None] * 0.4 + 50
    image = picture()
    warped = warp_reference(image, source, source + 9)
    assert torch.equal(warped[..., 450:, 450:], image[..., 450:, 450:])
    assert not torch.equal(warped[..., 100:200, 100:200], image[..., 100:200, 100:200])


def test_wild_landmarks_move_nothing_further_than_the_reach() -> None:
    source = drawn_landmarks()[None]
    target = source.clone()
    target[0, 30] += 5000
    target[0, 36:48] += 300
    field = displacement_field(source, target, CONFIG, 512)
    assert field.norm(dim=1).max() <= CONFIG.reach * (1 + 1e-5)


def test_landmarks_that_are_not_finite_are_left_out() -> None:
    source, target = drawn_landmarks()[None], smile()[None]
    broken = target.clone()
    broken[0, 30] = math.nan
    broken[0, 8, 0] = math.inf
    rest = [k for k in range(68) if k not in (30, 8)]
    torch.testing.assert_close(
        displacement_field(source, broken, CONFIG, 512),
        displacement_field(source[:, rest], target[:, rest], CONFIG, 512),
    )


def test_bits_do_not_depend_on_batch_mates() -> None:
    source, target = drawn_landmarks()[None].repeat(3, 1, 1), torch.stack([drawn_landmarks(i) for i in range(3)])
    together = warp_reference(picture(3, 64), source / 8, target / 8)
    for i in range(3):
        assert torch.equal(
            warp_reference(picture(3, 64)[i : i + 1], source[:1] / 8, target[i : i + 1] / 8)[0], together[i]
        )


def test_is_the_same_warp_at_any_size() -> None:
    source, target = drawn_landmarks()[None], smile()[None]
    # Half the size: a pixel's centre is half a pixel from its edge at either size.
    small = displacement_field((source + 0.5) / 2 - 0.5, (target + 0.5) / 2 - 0.5, CONFIG, 256)
    torch.testing.assert_close(small * 2, displacement_field(source, target, CONFIG, 512), rtol=1e-3, atol=1e-3)


def test_differentiable() -> None:
    image = picture(size=32).requires_grad_()
    source = (drawn_landmarks()[None] / 16).requires_grad_()
    warp_reference(image, source, source.detach().clone()).square().sum().backward()
    assert image.grad is not None and source.grad is not None
    assert source.grad.isfinite().all()
    assert source.grad.any()


def test_only_squares() -> None:
    with pytest.raises(ValueError, match="square"):
        warp_reference(torch.zeros(1, 3, 8, 16), torch.zeros(1, 68, 2), torch.zeros(1, 68, 2))
