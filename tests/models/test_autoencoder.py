import pytest
import torch

from models.autoencoder import KLAutoencoder
from tests.small_generator import KL, faces


@pytest.fixture(scope="module")
def network() -> KLAutoencoder:
    torch.manual_seed(0)
    return KLAutoencoder(KL).eval().requires_grad_(False)


def test_the_mode_of_the_posterior_times_the_scaling_factor(network: KLAutoencoder) -> None:
    latents = network.encode(faces(2))
    assert latents.shape == (2, 4, 8, 8)
    assert torch.equal(latents, network.network.encode(faces(2)).latent_dist.mode() * 0.2)
    assert torch.equal(network.encode(faces(2), [None, None]), latents)


def test_decoding_undoes_the_scaling(network: KLAutoencoder) -> None:
    latents = network.encode(faces(1))
    assert torch.equal(network.decode(latents), network.network.decode(latents / 0.2).sample)


def test_a_seed_is_a_draw_of_its_own(network: KLAutoencoder) -> None:
    mode = network.encode(faces(3))
    drawn = network.encode(faces(3), [4, None, 5])
    assert torch.equal(drawn[1], mode[1])
    deviation = network.network.encode(faces(3)).latent_dist.std
    noise = (drawn / 0.2 - mode / 0.2) / deviation
    expected = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(4))
    assert torch.allclose(noise[0], expected, atol=1e-3)
    assert not torch.allclose(noise[0], noise[2], atol=0.1)


def test_a_seed_gives_the_same_in_any_company(network: KLAutoencoder) -> None:
    together = network.encode(faces(2), [1, 2])
    assert torch.allclose(network.encode(faces(2)[1:], [2]), together[1:], atol=1e-5)
