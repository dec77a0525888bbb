import torch
from torch import Tensor

from models.pixel_unshuffle_autoencoder import PixelUnshuffleAutoencoder, PixelUnshuffleAutoencoderConfig


def pictures(count: int = 6, side: int = 64) -> Tensor:
    """Smooth random fields in [-1, 1]: their patches have a few strong components and many weak ones."""
    coarse = torch.rand(count, 3, side // 4, side // 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, scale_factor=4, mode="bicubic").clamp(-1, 1)


def fitted(channels: int) -> PixelUnshuffleAutoencoder:
    torch.manual_seed(0)
    config = PixelUnshuffleAutoencoderConfig(latent_channels=channels, patch=8)
    network = PixelUnshuffleAutoencoder(config).requires_grad_(False)
    network.fit_principal_components(pictures())
    return network


def error(channels: int) -> float:
    network = fitted(channels)
    return float((network.decode(network.encode(pictures())) - pictures()).square().mean())


def test_an_eighth_of_the_size_and_back() -> None:
    network = fitted(16)
    latents = network.encode(torch.zeros(2, 3, 40, 24))
    assert latents.shape == (2, 16, 5, 3)
    assert network.decode(latents).shape == (2, 3, 40, 24)


def test_all_components_lose_nothing() -> None:
    assert error(192) < 1e-8


def test_more_components_lose_less() -> None:
    errors = [error(channels) for channels in (1, 4, 16, 64)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.02 * errors[0]


def test_no_other_linear_transform_of_that_size_loses_less() -> None:
    network, images = fitted(4), pictures()
    best = float((network.decode(network.encode(images)) - images).square().mean())
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        other = fitted(4)
        other.decoder.weight += 0.02 * torch.randn(other.decoder.weight.shape, generator=generator)
        assert float((other.decode(other.encode(images)) - images).square().mean()) > best


def test_latents_have_zero_mean_and_lengths_as_in_the_picture() -> None:
    network, images = fitted(192), pictures()
    latents = network.encode(images)
    assert torch.allclose(latents.mean((0, 2, 3)), torch.zeros(192), atol=1e-3)
    noise = 0.1 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    assert torch.allclose((network.encode(images + noise) - latents).norm(), noise.norm(), rtol=1e-3)


def test_channels_are_sorted_by_what_they_carry() -> None:
    carried = fitted(16).encode(pictures()).square().mean((0, 2, 3))
    assert (carried.diff() <= 0).all()


def test_pictures_without_any_contrast_can_be_fitted() -> None:
    network = fitted(16)
    network.fit_principal_components(torch.full((2, 3, 16, 16), 0.3))
    restored = network.decode(network.encode(torch.full((1, 3, 16, 16), 0.3)))
    assert torch.allclose(restored, torch.tensor(0.3), atol=1e-3)


def test_seeds_change_nothing() -> None:
    network = fitted(16)
    assert torch.equal(network.encode(pictures(2), [1, None]), network.encode(pictures(2)))
