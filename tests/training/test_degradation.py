from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from tests.toy_faces import ANNA, photo
from training import degradation
from training.degradation import PRESETS, Degradation, blur, degrade, gaussian_kernel, jpeg, random_kernel

NOTHING = Degradation(blur=(0.01, 0.01), down=(1, 1), noise=(0, 0), jpeg=(100, 100))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def face(side: int = 128) -> NDArray[np.uint8]:
    return photo(((side / 2 - 0.5, side / 2 - 0.5), side, ANNA), size=(side, side))


def noise_picture(width: int, height: int) -> NDArray[np.uint8]:
    return rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return float(10 * np.log10(255**2 / ((a.astype(float) - b) ** 2).mean()))


@pytest.mark.parametrize("name", PRESETS)
def test_a_seed_fixes_the_result(name: str) -> None:
    first, again, other = (degrade(face(), PRESETS[name], rng(seed), scale=0.25) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("size", [(64, 64), (77, 40), (9, 130)])
def test_every_preset_keeps_the_size(name: str, size: tuple[int, int]) -> None:
    picture = noise_picture(*size)
    before = picture.copy()
    for seed in range(3):
        out = degrade(picture, PRESETS[name], rng(seed))
        assert out.shape == picture.shape and out.dtype == np.uint8
    assert np.array_equal(picture, before)


def test_vqfr_ranges() -> None:
    assert PRESETS["vqfr-v1"] == Degradation(blur=(0.1, 10), down=(0.8, 8), noise=(0, 20), jpeg=(60, 100))
    assert PRESETS["vqfr-v2"] == Degradation(blur=(1, 15), down=(1, 30), noise=(0, 20), jpeg=(30, 90))


def test_the_order_is_blur_shrink_noise_jpeg_enlarge(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, tuple[int, ...], float]] = []
    monkeypatch.setattr(degradation, "blur", lambda image, kernel: note("blur", image))
    monkeypatch.setattr(degradation, "jpeg", lambda image, quality: note("jpeg", image))

    def note(name: str, image: torch.Tensor) -> torch.Tensor:
        seen.append((name, tuple(image.shape[2:]), float(image.std())))
        return image

    flat = np.full((64, 64, 3), 128, np.uint8)
    out = degrade(flat, replace(NOTHING, down=(4, 4), noise=(20, 20)), rng())
    assert [(name, size) for name, size, _ in seen] == [("blur", (64, 64)), ("jpeg", (16, 16))]
    assert seen[0][2] < 1e-6 and seen[1][2] == pytest.approx(20 / 255, rel=0.1)
    assert out.shape == (64, 64, 3)
    steps = np.abs(np.diff(out[:, :, 0].astype(float), axis=1)).mean()
    assert 0 < steps < 10  # noise as coarse as the small picture: 20 levels would give steps of 23


def test_preset_of_nothing_changes_nothing() -> None:
    assert psnr(degrade(face(), NOTHING, rng()), face()) > 34


def test_milder_presets_keep_more() -> None:
    def kept(preset: Degradation) -> float:
        return float(np.mean([psnr(degrade(face(), preset, rng(seed), scale=0.25), face()) for seed in range(8)]))

    assert kept(PRESETS["vqfr-v1"]) > kept(PRESETS["vqfr-v2"]) + 1
    for stronger in ({"blur": (16, 16)}, {"down": (24, 24)}, {"noise": (20, 20)}, {"jpeg": (5, 5)}):
        assert kept(NOTHING) > kept(replace(NOTHING, **stronger)) + 3


def test_a_mild_preset_damages_less_and_sometimes_nothing() -> None:
    def errors(preset: str) -> list[float]:
        draws = (degrade(face(), PRESETS[preset], np.random.default_rng(n)) for n in range(40))
        return sorted(float(np.abs(draw.astype(float) - face()).mean()) for draw in draws)

    mild, stronger = errors("mild"), errors("vqfr-v1")
    assert 0 < mild.count(0.0) < 15
    assert mild[20] < 0.8 * stronger[20]


def test_scale_makes_blur_and_shrinking_milder_on_a_small_picture() -> None:
    preset = replace(NOTHING, blur=(4, 4), down=(8, 8))
    assert psnr(degrade(face(), preset, rng(), 0.25), face()) > psnr(degrade(face(), preset, rng()), face()) + 3


def test_some_are_left_clean_and_some_turn_grey() -> None:
    assert np.array_equal(degrade(face(), replace(NOTHING, noise=(9, 9), clean=1.0), rng()), face())
    grey = degrade(face(), replace(NOTHING, grey=1.0), rng()).astype(int)
    assert np.abs(grey - grey.mean(2, keepdims=True)).max() <= 2


@pytest.mark.parametrize("extra", ["colour_cast", "second_jpeg", "sharpen", "scan_texture"])
def test_each_extra_of_the_wide_preset_does_something(extra: str) -> None:
    plain = replace(NOTHING, jpeg=(50, 50))
    out = degrade(face(), replace(plain, **{extra: 1.0}), rng())
    assert out.shape == face().shape
    assert not np.array_equal(out, degrade(face(), plain, rng()))


def test_a_small_picture_was_shrunk_with_a_filter_and_is_enlarged_smoothly() -> None:
    """Of what is finer than its pixels, VQFR's shrinking without a filter keeps some as coarser noise."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    shrunk = replace(NOTHING, down=(4, 4))
    kept = {kind: degrade(noise, replace(shrunk, resampling=kind), rng()).std() for kind in ("bilinear", "bicubic")}
    assert kept["bicubic"] < 0.7 * kept["bilinear"]
    edge = np.repeat(np.array([[0] * 32 + [255] * 32] * 64, np.uint8)[:, :, None], 3, axis=2)
    sharp = {kind: degrade(edge, replace(shrunk, resampling=kind), rng())[32, :, 0].astype(int) for kind in kept}
    assert np.abs(np.diff(sharp["bicubic"])).max() > np.abs(np.diff(sharp["bilinear"])).max()


def test_jpeg_quality_may_be_fractional_and_lower_is_worse() -> None:
    image = torch.from_numpy(face()).permute(2, 0, 1)[None].float() / 255
    errors = [float((jpeg(image, quality) - image).square().mean()) for quality in (95.4, 60.0, 10.0)]
    assert errors == sorted(errors) and errors[0] < 1e-3
    assert torch.equal(jpeg(image, 60.2), jpeg(image, 60.0))


def test_blurring_is_a_convolution_with_reflected_edges() -> None:
    image = torch.rand(1, 3, 50, 60, generator=torch.Generator().manual_seed(0))
    kernel = random_kernel((2, 6), rng())
    padded = F.pad(image, (20,) * 4, mode="reflect")
    expected = F.conv2d(padded, kernel.flip(0, 1).expand(3, 1, -1, -1), groups=3)
    assert torch.allclose(blur(image, kernel), expected, atol=1e-5)
    small = torch.full((1, 3, 9, 30), 0.4)
    assert torch.allclose(blur(small, kernel), small, atol=1e-5)


def test_kernels_have_the_deviations_they_are_given() -> None:
    axis = torch.arange(41.0) - 20
    wide = gaussian_kernel(4.0, 2.0, 0.0)
    assert float(wide.sum()) == pytest.approx(1)
    assert float((wide.sum(0) * axis**2).sum()) == pytest.approx(16, rel=0.01)
    assert float((wide.sum(1) * axis**2).sum()) == pytest.approx(4, rel=0.01)
    assert torch.allclose(gaussian_kernel(4.0, 2.0, np.pi / 2), wide.T, atol=1e-6)


def test_half_of_the_kernels_are_round() -> None:
    kernels = [random_kernel((1, 5), rng(seed)) for seed in range(200)]
    round_ones = sum(torch.allclose(kernel, kernel.T, atol=1e-5) for kernel in kernels)
    assert 70 < round_ones < 130


def test_scale_makes_both_deviations_of_a_kernel_smaller() -> None:
    for seed in range(8):
        assert torch.allclose(random_kernel((8, 8), rng(seed), 0.25), gaussian_kernel(2.0, 2.0, 0.0), atol=1e-6)
