import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from models.honestface import HonestFaceConfig
from models.tiny_unet import ResidualBlock, TinyUNet, TinyUNetConfig
from tests.small_generator import SMALL, SMALL_SD21

CONFIG = TinyUNetConfig(in_channels=6, out_channels=4, widths=(8, 12, 16), blocks=(1, 1, 2), prompt_width=10, heads=2)


@pytest.fixture
def unet() -> TinyUNet:
    torch.manual_seed(0)
    network = TinyUNet(CONFIG)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return network


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def predict(unet: TinyUNet, sample: Tensor | None = None, prompt: Tensor | None = None, **more: object) -> Tensor:
    sample = noise(2, 6, 16, 16) if sample is None else sample
    prompt = noise(2, 5, 10, seed=1) if prompt is None else prompt
    out: Tensor = unet(sample, 399, prompt, **more)[0]
    return out


def test_a_residual_block_starts_as_the_identity() -> None:
    x = noise(1, 8, 4, 4)
    assert torch.equal(ResidualBlock(8)(x), x)


def test_latent_place_and_prompt_all_count(unet: TinyUNet) -> None:
    plain = predict(unet)
    assert plain.shape == (2, 4, 16, 16)
    latent, place = noise(2, 6, 16, 16), noise(2, 6, 16, 16)
    latent[:, :4] += 1
    place[:, 4:] += 1
    others = [predict(unet, latent), predict(unet, place), predict(unet, prompt=noise(2, 5, 10, seed=2))]
    assert all(not torch.allclose(plain, other, atol=1e-3) for other in others)


def test_every_level_below_the_first_is_told_the_place(unet: TinyUNet) -> None:
    assert unet.encoder.places is not None
    plain = predict(unet)
    for layer in unet.encoder.places:
        kept = layer.weight.detach().clone()
        torch.nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
        assert not torch.allclose(plain, predict(unet), atol=1e-3)
        layer.weight.data.copy_(kept)


def test_no_face_depends_on_its_batch_mates(unet: TinyUNet) -> None:
    first = predict(unet, noise(2, 6, 16, 16)[:1], noise(2, 5, 10, seed=1)[:1])
    assert torch.allclose(predict(unet)[:1], first, atol=1e-5)


def test_residuals_join_the_skips_and_the_middle(unet: TinyUNet) -> None:
    plain = predict(unet)
    nothing = [torch.zeros(2, 8, 16, 16), torch.zeros(2, 12, 8, 8)]
    middle = torch.zeros(2, 16, 4, 4)
    given = {"down_block_additional_residuals": nothing, "mid_block_additional_residual": middle}
    assert torch.equal(predict(unet, **given), plain)
    for place in range(3):
        parts = [*nothing, middle]
        parts[place] = torch.ones_like(parts[place])
        steered = predict(unet, down_block_additional_residuals=parts[:2], mid_block_additional_residual=parts[2])
        assert not torch.allclose(steered, plain, atol=1e-3)
    with pytest.raises(ValueError, match="zip"):
        predict(unet, down_block_additional_residuals=nothing[:1])


def test_checkpointing_changes_no_gradient(unet: TinyUNet) -> None:
    gradients = []
    for keep_less in (False, True):
        if keep_less:
            unet.enable_gradient_checkpointing()
        unet.zero_grad()
        predict(unet).square().sum().backward()
        gradients.append([parameter.grad for parameter in unet.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True) if a is not None and b is not None)
    assert None not in gradients[1]


@pytest.mark.parametrize("config", [SMALL, SMALL_SD21], ids=["tiny", "sd21"])
def test_a_written_shape_is_read_as_the_same_kind_of_unet(config: HonestFaceConfig) -> None:
    adapter = TypeAdapter(HonestFaceConfig)
    again = adapter.validate_json(adapter.dump_json(config))
    assert type(again.unet) is type(config.unet)
    if isinstance(config.unet, TinyUNetConfig):
        assert again == config


def test_damping_takes_a_share_of_the_latent_away(unet: TinyUNet) -> None:
    """Of channel 1 a quarter and of channel 2 all of it, wherever they are, on top of what is predicted anew."""
    latent = noise(2, 6, 16, 16)
    for parameter in (unet.damping.weight, unet.damping.bias):
        torch.nn.init.zeros_(parameter)  # type: ignore[arg-type]
    plain = predict(unet, latent)
    unet.damping.bias.data[1:3] = torch.tensor([0.25, 1.0])
    expected = plain + latent[:, :4] * torch.tensor([0, 0.25, 1, 0]).view(4, 1, 1)
    assert torch.allclose(predict(unet, latent), expected, atol=1e-6)
