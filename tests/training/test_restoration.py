import torch
from torch import nn

from tests.small_generator import small_generator
from training.restoration import freeze_all_but, visual_prompt


def test_the_prompt_in_training_is_the_generators() -> None:
    network = small_generator().requires_grad_(True)
    lq = torch.rand(2, 3, 64, 64)
    prompt = visual_prompt(network, lq)
    assert torch.equal(prompt, network.vre(lq))
    prompt.sum().backward()
    assert network.vre.projection.conv1.weight.grad is not None
    assert network.vre.quant_conv.weight.grad is None


def test_freezing_by_name() -> None:
    network = nn.ModuleDict({"a": nn.Linear(1, 1), "ab": nn.Linear(1, 1)})
    freeze_all_but(network, ("a.",))
    assert [name for name, p in network.named_parameters() if p.requires_grad] == ["a.weight", "a.bias"]
