import pytest
import torch
from torch import nn

from models.batch_invariant_linear import BatchInvariantLinear


@pytest.mark.parametrize("shape", [(4, 48), (4, 7, 48), (4, 2, 3, 48)])
@pytest.mark.parametrize("bias", [True, False])
def test_is_a_linear_layer(shape: tuple[int, ...], bias: bool) -> None:
    layer, plain = BatchInvariantLinear(48, 32, bias=bias), nn.Linear(48, 32, bias=bias)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x), plain(x))
    layer(x).square().sum().backward()
    plain(x).square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, plain.weight.grad)


def test_bits_do_not_depend_on_batch_mates() -> None:
    layer = BatchInvariantLinear(256, 96)
    x = torch.randn(9, 3, 256, generator=torch.Generator().manual_seed(0))
    together = layer(x)
    for items in (1, 2, 5, 9):
        assert torch.equal(layer(x[:items]), together[:items])
    assert torch.equal(layer(x[4:5])[0], together[4])
