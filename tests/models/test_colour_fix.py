import pytest
import torch
import torch.nn.functional as F
from skimage.data import astronaut

from models.colour_fix import LEVELS, adain, apply, low_frequencies, wavelet


def picture(seed: int, size: int = 96) -> torch.Tensor:
    return torch.rand(2, 3, size, size + 8, generator=torch.Generator().manual_seed(seed))


def naive_low(image: torch.Tensor, levels: int = LEVELS) -> torch.Tensor:
    kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    for level in range(levels):
        step = 2**level
        padded = F.pad(image, (step,) * 4, mode="replicate")
        image = F.conv2d(padded, kernel.expand(image.shape[1], 1, 3, 3), groups=image.shape[1], dilation=step)
    return image


def test_low_frequencies_are_the_dilated_kernel() -> None:
    photo = torch.from_numpy(astronaut().copy()).permute(2, 0, 1)[None] / 127.5 - 1
    off = (low_frequencies(photo) - naive_low(photo)).abs()
    assert off.max() < 0.03
    assert off[..., 64:-64, 64:-64].max() < 0.01


def test_wavelet_is_high_of_one_and_low_of_the_other() -> None:
    restored, lq = picture(1), picture(2)
    expected = restored - low_frequencies(restored) + low_frequencies(lq)
    torch.testing.assert_close(wavelet(restored, lq), expected, atol=1e-6, rtol=0)


def test_wavelet_undoes_a_colour_cast_and_keeps_detail() -> None:
    truth = picture(3)
    cast = truth + torch.tensor([0.2, -0.1, 0.05])[:, None, None]
    torch.testing.assert_close(wavelet(cast, truth), truth, atol=1e-5, rtol=0)


def test_wavelet_keeps_a_stroke_that_the_input_lacks() -> None:
    lq = torch.full((1, 3, 96, 96), 0.5)
    restored = lq.clone()
    restored[:, :, :, 48] = 1.0
    assert wavelet(restored, lq)[0, 0, 48, 48] > 0.9


def test_wavelet_leaves_the_blotches_of_the_input_behind() -> None:
    grey = torch.full((1, 3, 512, 512), 0.5)
    noise = 0.1 * torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(9))
    blotched = grey + F.interpolate(noise, 512, mode="bilinear", align_corners=False)  # enlarged 32-fold
    back = (wavelet(grey, blotched) - grey).std() / (blotched - grey).std()
    assert back < 0.4


def test_adain_takes_mean_and_deviation() -> None:
    restored, lq = picture(4), 0.3 * picture(5) + 0.4
    fixed = adain(restored, lq)
    torch.testing.assert_close(fixed.mean((2, 3)), lq.mean((2, 3)), atol=1e-5, rtol=0)
    torch.testing.assert_close(fixed.std((2, 3)), lq.std((2, 3)), atol=1e-4, rtol=0)


def test_adain_of_a_flat_picture_is_finite() -> None:
    flat = torch.full((1, 3, 8, 8), 0.5)
    assert torch.isfinite(adain(flat, flat)).all()


@pytest.mark.parametrize("fix", ["wavelet", "adain"])
def test_the_same_picture_stays(fix: str) -> None:
    torch.testing.assert_close(apply(picture(6), picture(6), fix), picture(6), atol=1e-5, rtol=0)  # type: ignore[arg-type]


def test_none_changes_nothing() -> None:
    restored = picture(7)
    assert apply(restored, picture(8), "none") is restored
