import pytest
import torch
from torch import Tensor

from models.honestface import HonestFace
from tests.small_generator import SMALL_SD21, small_generator
from training.latent_discriminator import LatentDiscriminator, TinyUNetEncoder, UNetEncoder

CHANNELS = 16


@pytest.fixture(scope="module")
def generator() -> HonestFace:
    return small_generator()


@pytest.fixture
def discriminator(generator: HonestFace) -> LatentDiscriminator:
    torch.manual_seed(1)
    return LatentDiscriminator(generator.unet, generator.diffusion, 4, generator.position_map)


def latents(count: int, seed: int = 0, channels: int = CHANNELS) -> Tensor:
    return torch.randn(count, channels, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_the_encoder_is_the_unets_own_half() -> None:
    """What the middle block of the whole UNet gives, caught by a hook."""
    network = small_generator(SMALL_SD21)
    x = latents(2, channels=network.unet.config.in_channels)
    timesteps, prompt = torch.tensor([3, 700]), torch.randn(2, 77, 24)
    caught = []
    handle = network.unet.mid_block.register_forward_hook(lambda *arguments: caught.append(arguments[2]))
    with torch.inference_mode():
        network.unet(x, timesteps, prompt)
        found = UNetEncoder(network.unet)(x, timesteps, prompt)
    handle.remove()
    assert torch.equal(found, caught[0])


def test_the_tiny_ones_encoder_is_its_way_down(generator: HonestFace) -> None:
    x, prompt = latents(2, channels=20), torch.randn(2, 77, 24)
    caught = []
    handle = generator.unet.up[-1].register_forward_pre_hook(lambda _, arguments: caught.append(arguments[0]))
    with torch.inference_mode():
        generator.unet(x, 399, prompt)
        found = TinyUNetEncoder(generator.unet)(x, torch.tensor([3, 700]), prompt)
    handle.remove()
    assert torch.equal(found, caught[0])


def test_one_score_a_latent_with_noise_of_its_own(discriminator: LatentDiscriminator) -> None:
    z, prompt = latents(3), torch.randn(3, 77, 24)
    torch.manual_seed(5)
    first = discriminator(z, prompt)
    second = discriminator(z, prompt)
    torch.manual_seed(5)
    assert first.shape == (3,)
    assert torch.equal(discriminator(z, prompt), first) and not torch.equal(first, second)


def test_the_prompt_and_the_latent_count(discriminator: LatentDiscriminator) -> None:
    scores = []
    for z, p in ((0, 0), (1, 0), (0, 1)):
        torch.manual_seed(5)
        scores.append(discriminator(latents(2, z), torch.randn(2, 77, 24, generator=torch.Generator().manual_seed(p))))
    assert not torch.allclose(scores[0], scores[1]) and not torch.allclose(scores[0], scores[2])


def test_lora_and_head_are_trained_and_the_generator_is_left_alone(
    generator: HonestFace, discriminator: LatentDiscriminator
) -> None:
    before = {name: value.clone() for name, value in generator.unet.state_dict().items()}
    trained = [name for name, p in discriminator.named_parameters() if p.requires_grad]
    assert {name.split(".")[0] for name in trained} == {"encoder", "head"}
    assert all(".lora_" in name for name in trained if name.startswith("encoder."))
    optimizer = torch.optim.SGD([p for p in discriminator.parameters() if p.requires_grad], lr=1.0)
    discriminator(latents(2), torch.randn(2, 77, 24)).sum().backward()
    optimizer.step()
    assert not any(".lora_" in name for name in generator.unet.state_dict())
    assert all(torch.equal(value, before[name]) for name, value in generator.unet.state_dict().items())


def test_without_lora_all_of_it_is_trained(generator: HonestFace) -> None:
    discriminator = LatentDiscriminator(generator.unet, generator.diffusion, 0)
    assert all(parameter.requires_grad for parameter in discriminator.parameters())
    assert not any(parameter.requires_grad for parameter in generator.unet.parameters())
