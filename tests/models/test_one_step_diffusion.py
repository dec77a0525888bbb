import pytest
import torch
from diffusers import DDPMScheduler

from models.one_step_diffusion import (
    OneStepDiffusion,
    OneStepDiffusionConfig,
    blend_latents,
    scaled_linear_alphas_cumprod,
)

PAPER = OneStepDiffusion(OneStepDiffusionConfig())
RESIDUAL = OneStepDiffusion(OneStepDiffusionConfig(residual=True))


def latents(seed: int, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_the_noise_level_of_step_399() -> None:
    assert float(PAPER.alphas_cumprod[399]) == pytest.approx(0.42609, abs=5e-6)
    assert PAPER.signal == pytest.approx(0.65275, abs=5e-6)
    assert PAPER.noise == pytest.approx(0.75757, abs=5e-6)


def test_the_schedule_is_stable_diffusions() -> None:
    theirs = DDPMScheduler(1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod
    assert torch.allclose(scaled_linear_alphas_cumprod().float(), theirs, rtol=1e-4)


def test_equation_3_undoes_equation_1() -> None:
    clean, noise = latents(0), latents(1)
    noisy = PAPER.diffuse(clean, torch.tensor([399, 399]), noise)
    assert torch.allclose(PAPER.restored_latent(noisy, noise), clean, atol=1e-5)


def test_each_latent_is_noised_to_its_own_step() -> None:
    clean, noise = latents(0), latents(1)
    noisy = PAPER.diffuse(clean, torch.tensor([0, 999]), noise)
    assert torch.allclose(noisy[0], clean[0], atol=0.15)
    assert torch.allclose(noisy[1], noise[1], atol=0.3)


def test_a_residual_of_zero_is_the_identity() -> None:
    latent = latents(0)
    assert torch.equal(RESIDUAL.restored_latent(latent, torch.zeros_like(latent)), latent)


def test_a_residual_is_equation_3_with_another_origin() -> None:
    latent, prediction = latents(0), latents(1)
    epsilon = latent * (1 - PAPER.signal) / PAPER.noise + prediction
    expected = PAPER.restored_latent(latent, epsilon)
    assert torch.allclose(RESIDUAL.restored_latent(latent, prediction), expected, atol=1e-5)


@pytest.mark.parametrize("given", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_half_precision_is_restored_in_single(given: torch.dtype) -> None:
    restored = PAPER.restored_latent(latents(0).to(given), latents(1).to(given))
    assert restored.dtype == torch.promote_types(given, torch.float32)


def test_strength_is_exact_at_both_ends() -> None:
    latent, restored = latents(0, 3), 1e4 * latents(1, 3)
    blended = blend_latents(latent, restored, torch.tensor([0.0, 0.25, 1.0]))
    assert torch.equal(blended[0], latent[0])
    assert torch.allclose(blended[1], 0.75 * latent[1] + 0.25 * restored[1])
    assert torch.equal(blended[2], restored[2])
