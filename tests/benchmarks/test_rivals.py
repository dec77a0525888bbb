import pytest
import torch

from benchmarks.rivals import RIVALS


@pytest.mark.parametrize("name", RIVALS)
def test_parameters_are_those_of_the_released_checkpoints(name: str) -> None:
    make, millions = RIVALS[name]
    with torch.device("meta"):
        network = make()
        assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, rel=0.05)
        assert network.eval()(torch.empty(1, 3, 512, 512)).shape == (1, 3, 512, 512)
