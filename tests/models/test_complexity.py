import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.complexity import LORA_RANK, Cost, measure, measure_lora, parameters


class Attention(nn.Module):
    """Named as the UNet's, so that LoRA finds its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.to_q = nn.Linear(8, 12, bias=False)
        self.to_v = nn.Linear(8, 20)

    def forward(self, x: Tensor) -> Tensor:
        query = self.to_q(x)
        return F.scaled_dot_product_attention(query, query, self.to_v(x))


def test_macs_of_layers_are_their_formulas() -> None:
    with torch.device("meta"):
        convolution = nn.Conv2d(6, 8, 3, stride=2, padding=1, groups=2)
        assert measure([convolution], lambda: convolution(torch.empty(2, 6, 16, 16))) == Cost(
            8 * 3 * 9 + 8, 2 * 8 * 8 * 8 * 3 * 9, 0
        )
        linear = nn.Linear(5, 7)
        assert measure([linear], lambda: linear(torch.empty(3, 4, 5))) == Cost(5 * 7 + 7, 3 * 4 * 5 * 7, 0)
        row = nn.Conv1d(5, 7, 1)
        assert measure([row], lambda: row(torch.empty(3, 5, 4))).macs == 3 * 4 * 5 * 7


def test_attention_products_are_counted_apart() -> None:
    with torch.device("meta"):
        network = Attention()
        cost = measure([network], lambda: network(torch.empty(3, 10, 8)))
    assert cost.macs == 3 * 10 * 8 * (12 + 20)
    assert cost.attention_macs == 3 * 10 * 10 * (12 + 20)


def test_a_layer_counts_as_often_as_it_runs() -> None:
    layer = nn.Linear(4, 4)
    once = measure([layer], lambda: layer(torch.zeros(1, 4)))
    assert measure([layer], lambda: layer(layer(torch.zeros(1, 4)))).macs == 2 * once.macs
    assert once.times(3) == Cost(once.parameters, 3 * once.macs, 0)
    assert once + once == Cost(2 * once.parameters, 2 * once.macs, 0)
    assert not layer._forward_hooks  # nothing is left behind


def test_only_the_named_networks_count() -> None:
    a, b = nn.Linear(4, 4), nn.Linear(4, 4)
    assert measure([a], lambda: b(a(torch.zeros(1, 4)))).macs == 16
    assert parameters(a, b) == 40


def test_unmerged_lora_adds_two_thin_layers_to_each_target() -> None:
    network = Attention()
    x = torch.zeros(3, 10, 8)
    cost = measure_lora(network, lambda: network(x))
    per_position = LORA_RANK * (8 + 12) + LORA_RANK * (8 + 20)
    assert cost == Cost(per_position, 3 * 10 * per_position, 0)
