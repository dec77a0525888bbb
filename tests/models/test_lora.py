from collections.abc import Callable

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from models.errors import WeightsError
from models.lora import OSEDIFF_TARGETS, adapter_state, add_adapters, merge_lora, target_layers

State = dict[str, Tensor]


def small_unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        cross_attention_dim=12,
        attention_head_dim=8,
        norm_num_groups=8,
        use_linear_projection=True,
    ).eval()


def output(unet: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    latent = torch.randn(2, 4, 8, 8, generator=generator)
    prompt = torch.randn(2, 5, 12, generator=generator)
    with torch.no_grad():
        sample: Tensor = unet(latent, 399, encoder_hidden_states=prompt).sample
    return sample


def to_old_style(key: str) -> str:
    return key.replace(".lora_A.", ".lora.down.").replace(".lora_B.", ".lora.up.")


def mix_styles(state: State) -> State:
    return {to_old_style(key) if "attn" in key else key: tensor for key, tensor in state.items()}


@pytest.fixture(scope="module")
def trained() -> tuple[State, Tensor]:
    """Adapters with B no longer zero, and the unmerged output with them."""
    unet = small_unet()
    add_adapters(unet, rank=4, alpha=6)
    torch.manual_seed(2)
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    return adapter_state(unet), output(unet)


@pytest.mark.parametrize(
    "restyle",
    [
        dict,
        lambda state: {to_old_style(key): tensor for key, tensor in state.items()},
        mix_styles,
        lambda state: {key.removeprefix("unet."): tensor for key, tensor in state.items()},
    ],
    ids=["peft", "old", "mixed", "unprefixed"],
)
def test_merged_equals_unmerged(trained: tuple[State, Tensor], restyle: Callable[[State], State]) -> None:
    state, unmerged = trained
    unet = small_unet()
    assert (output(unet) - unmerged).abs().max() > 1e-2  # the adapters do something
    merge_lora(unet, restyle(state), alpha=6.0)
    assert (output(unet) - unmerged).abs().max() <= 1e-5


def test_adapters_sit_on_every_target_and_convolutions_too(trained: tuple[State, Tensor]) -> None:
    state, _ = trained
    layers = target_layers(small_unet())
    assert len(state) == 2 * len(layers)
    assert "conv_in" in layers and any(name.endswith("downsamplers.0.conv") for name in layers)
    assert not any("time_emb" in name for name in layers)
    assert {target for target in OSEDIFF_TARGETS if any(f".{name}".endswith(f".{target}") for name in layers)} == set(
        OSEDIFF_TARGETS
    )
    assert state["unet.conv_in.lora_A.weight"].shape == (4, 4, 3, 3)
    assert state["unet.conv_in.lora_B.weight"].shape == (16, 4, 1, 1)


def test_adapters_change_nothing_before_training_and_only_they_are_trained() -> None:
    unet = small_unet()
    before = output(unet)
    add_adapters(unet, rank=4)
    assert torch.equal(output(unet), before)
    assert all(("lora_" in name) == parameter.requires_grad for name, parameter in unet.named_parameters())


def test_weights_are_summed_in_float32_then_cast() -> None:
    layer = nn.Sequential(nn.Linear(8, 8, bias=False)).to(torch.bfloat16)
    weight = layer[0].weight.detach().clone()
    a, b = torch.randn(2, 8), torch.randn(8, 2) * 1e-2
    merge_lora(layer, {"0.lora_A.weight": a, "0.lora_B.weight": b}, alpha=2.0)
    assert layer[0].weight.dtype == torch.bfloat16
    assert torch.equal(layer[0].weight, (weight.float() + b @ a).to(torch.bfloat16))


A, B = torch.ones(2, 4), torch.ones(4, 2)


@pytest.mark.parametrize(
    ("state", "named"),
    [
        ({"0.lora_A.weight": A, "0.lora_B.weight": B, "0.alpha": A}, "0.alpha"),
        ({"0.lora_A.weight": A}, "0.lora_A.weight"),
        ({"0.lora.up.weight": B}, "0.lora.up.weight"),
        ({"text_encoder.0.lora_A.weight": A, "text_encoder.0.lora_B.weight": B}, "text_encoder.0"),
        ({"0.lora_A.weight": torch.ones(2, 5), "0.lora_B.weight": B}, "0.lora_A.weight"),
        ({"0.lora_A.weight": A, "0.lora_B.weight": torch.ones(4, 3)}, "0.lora_B.weight"),
        ({"0.lora_A.weight": A, "0.lora_B.weight": B, "unet.0.lora.down.weight": A}, "unet.0.lora.down.weight"),
        ({}, "no adapter"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_changes(state: State, named: str) -> None:
    module = nn.Sequential(nn.Linear(4, 4))
    weight = module[0].weight.detach().clone()
    good = {"0.lora_A.weight": A, "0.lora_B.weight": B} if named == "text_encoder.0" else {}
    with pytest.raises(WeightsError, match=named.replace(".", r"\.")):
        merge_lora(module, good | state)
    assert torch.equal(module[0].weight, weight)
