"""Muon takes the matrices inside a network, whatever their order in memory, and AdamW the rest."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from training.muon import Muon, MuonAndAdamW, orthogonal


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, 6, 3, padding=1)
        self.conv = nn.Conv2d(6, 8, 3, padding=1)
        self.linear = nn.Linear(8, 5)
        self.frozen = nn.Linear(5, 5).requires_grad_(False)
        self.map = nn.Parameter(torch.zeros(6, 4, 4))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.frozen(self.linear(self.conv(self.conv_in(x) + self.map).mean((2, 3))))
        return out


def small(seed: int = 0) -> Small:
    torch.manual_seed(seed)
    return Small()


def optimizer(network: nn.Module) -> MuonAndAdamW:
    return MuonAndAdamW(network, 0.01, 0.0, (0.9, 0.99))


def train(network: nn.Module, steps: int, first: int = 0, of: MuonAndAdamW | None = None) -> MuonAndAdamW:
    of = of or optimizer(network)
    for step in range(first, first + steps):
        x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(step))
        network(x).square().sum().backward()
        of.step()
        of.zero_grad()
    return of


def test_a_step_evens_out_the_directions_of_a_hidden_weights_gradient() -> None:
    network = small()
    before = copy.deepcopy(network)
    before(torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    train(network, 1)
    for name in ("conv", "linear"):
        old = before.get_submodule(name).weight
        gradient = torch.linalg.svdvals(old.grad.flatten(1))
        moved = torch.linalg.svdvals((network.get_submodule(name).weight - old).detach().flatten(1))
        # of the size of AdamW's step: 0.2 of the learning rate for each weight of the longer side, times 0.68 to 1.14
        assert 0.67 < float(moved[0]) / (0.01 * 0.2 * max(old.flatten(1).shape) ** 0.5) < 1.15
        assert float(moved[1] / moved[0]) > 2 * float(gradient[1] / gradient[0])


@pytest.mark.parametrize("shape", [(6, 20), (20, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_steps_as_torchs_does_but_for_rounding(shape: tuple[int, int], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    start = torch.randn(shape)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    own = Muon([ours], lr=0.01, weight_decay=0.1, dtype=dtype)
    torchs = torch.optim.Muon([theirs], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        own.step()
        torchs.step()  # type: ignore[no-untyped-call]  # torch's
    assert (ours - theirs).abs().max() < 0.02 * (ours - start).abs().max()
    assert torch.linalg.svdvals(orthogonal(start)).sub(1).abs().max() < 0.35


def test_the_outermost_layer_biases_and_maps_are_adamws() -> None:
    network, other = small(), small()
    rest = [other.conv_in.weight, other.conv_in.bias, other.conv.bias, other.linear.bias, other.map]
    adamw = torch.optim.AdamW(rest, 0.01, (0.9, 0.99), weight_decay=0.0)
    train(network, 1)
    other(torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    adamw.step()
    own = [network.conv_in.weight, network.conv_in.bias, network.conv.bias, network.linear.bias, network.map]
    assert all(torch.equal(a, b) for a, b in zip(own, rest, strict=True))
    assert not torch.equal(own[0], small().conv_in.weight)
    assert torch.equal(network.frozen.weight, small().frozen.weight)


def test_the_order_in_memory_does_not_matter() -> None:
    plain, last = small(), small().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert not last.conv.weight.is_contiguous()
    train(plain, 3)
    train(last, 3)
    assert torch.allclose(plain.conv.weight, last.conv.weight, atol=1e-5)


def test_weights_that_moved_to_other_memory_are_still_trained() -> None:
    """As `.to(device)` does it, which accelerate calls between two processes after an optimiser was built."""
    network, before = small(), small()
    of = optimizer(network)
    for parameter in network.parameters():
        parameter.data = parameter.data.clone()
    train(network, 1, of=of)
    for old, new in zip(before.parameters(), network.parameters(), strict=True):
        assert torch.equal(old, new) is not new.requires_grad


def test_the_outer_layers_adapters_are_not_hidden_either() -> None:
    network = small()
    network.conv_in.register_module("lora_A", nn.Conv2d(3, 2, 3))
    assert [tuple(weight.shape) for weight in optimizer(network).weights] == [(8, 6, 3, 3), (5, 8)]


@pytest.mark.parametrize("steps", [0, 2])
def test_saved_and_loaded_it_goes_on_as_before(steps: int) -> None:
    whole = small()
    train(whole, steps + 2)
    network = small()
    state: dict[str, Any] = copy.deepcopy(train(network, steps).state_dict())
    again = optimizer(network)
    again.load_state_dict(state)
    for group in again.param_groups:
        group["lr"] = 0.01
    train(network, 2, steps, again)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), network.parameters(), strict=True))
