import pytest
import torch

from models.honestface import HonestFace
from models.profiles import PROFILES, SD21, TINY
from models.tiny_unet import TinyUNetConfig


@pytest.mark.parametrize("name", PROFILES)
def test_the_parts_of_a_profile_fit_each_other(name: str) -> None:
    config = PROFILES[name]
    with torch.device("meta"):
        network = HonestFace(config)
        prompt = network.vre(torch.zeros(1, 3, 512, 512))
        latent = network.vae.encode(torch.zeros(1, 3, 512, 512))
        restored = network.predict(latent, prompt)
    unet = config.unet
    width = unet.prompt_width if isinstance(unet, TinyUNetConfig) else unet["cross_attention_dim"]
    assert prompt.shape == (1, 77, width)
    assert latent.shape[2:] == (config.latent_size, config.latent_size)
    assert restored.shape == latent.shape
    assert network.identity_embedder is not None and network.identity_embedder.tokens == 11
    assert network.identity_embedder.config.extractor.prompt_width == width


def test_the_papers_profile_is_equation_3_and_the_tiny_one_a_residual() -> None:
    assert SD21.diffusion.timestep == TINY.diffusion.timestep == 399
    assert not SD21.diffusion.residual and TINY.diffusion.residual
