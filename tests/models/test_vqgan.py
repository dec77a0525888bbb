import pytest
import torch

from models.vqgan import Decoder, Encoder

SHAPE = {
    "resolution": 32,
    "channels": 8,
    "multipliers": (1, 2, 2),
    "residual_blocks": 2,
    "attention_resolutions": (8,),
    "width": 12,
    "groups": 4,
}


def test_encoder_shrinks_and_decoder_returns() -> None:
    features = Encoder(**SHAPE)(torch.zeros(2, 3, 32, 32))  # type: ignore[arg-type]
    assert features.shape == (2, 12, 8, 8)
    assert Decoder(**SHAPE)(features).shape == (2, 3, 32, 32)  # type: ignore[arg-type]


def test_encoder_key_names_are_those_of_the_checkpoints() -> None:
    keys = set(Encoder(**SHAPE).state_dict())  # type: ignore[arg-type]
    expected = {
        "conv_in.weight",
        "down.0.block.1.conv2.bias",
        "down.0.downsample.conv.weight",
        "down.1.block.0.nin_shortcut.weight",
        "down.2.block.0.norm1.weight",
        "down.2.attn.0.norm1.bias",
        "down.2.attn.1.q.weight",
        "down.2.attn.1.proj_out.bias",
        "mid.block_1.conv1.weight",
        "mid.attn_1.v.weight",
        "mid.block_2.norm2.weight",
        "norm_out.weight",
        "conv_out.bias",
    }
    assert expected <= keys
    assert not any(key.startswith(("down.0.attn", "down.1.attn", "down.2.downsample")) for key in keys)


def test_decoder_key_names_are_those_of_the_checkpoints() -> None:
    keys = set(Decoder(**SHAPE).state_dict())  # type: ignore[arg-type]
    expected = {"up.0.block.2.conv1.weight", "up.1.upsample.conv.weight", "up.2.attn.2.k.weight", "mid.attn_1.q.bias"}
    assert expected <= keys
    assert not any(key.startswith(("up.0.upsample", "up.0.attn")) for key in keys)


def test_attention_sees_the_whole_picture() -> None:
    torch.manual_seed(0)
    encoder = Encoder(**SHAPE)  # type: ignore[arg-type]
    picture = torch.zeros(1, 3, 64, 64)
    changed = picture.clone()
    changed[..., 0, 0] = 1.0
    far = (encoder(changed) - encoder(picture))[0, :, -1, -1]
    assert far.abs().max() > 0


@pytest.mark.parametrize("network", [Encoder, Decoder])
def test_every_parameter_gets_a_gradient(network: type[Encoder] | type[Decoder]) -> None:
    module = network(**SHAPE)  # type: ignore[arg-type]
    module(torch.randn(1, 3, 32, 32) if network is Encoder else torch.randn(1, 12, 8, 8)).square().mean().backward()
    assert [name for name, p in module.named_parameters() if p.grad is None] == []
