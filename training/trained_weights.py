"""What of a network is trained, and its running average."""

import copy

import torch
from torch import Tensor, nn


def trained_weights(network: nn.Module) -> dict[str, Tensor]:
    """The trainable weights and all buffers; frozen parts (teachers, a frozen VAE) are not saved with a run."""
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    return {name: value for name, value in network.state_dict().items() if name not in frozen}


class AveragedWeights:
    """An exponential average of the trained weights; as a context it stands in for them, in evaluation mode."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay = network, decay
        self.values = {k: v.detach().clone() for k, v in trained_weights(network).items()}

    def update(self, step: int) -> None:
        """Move towards the network's weights; faster in the first steps, so that the start is soon forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step))
        current = trained_weights(self.network)
        floats = [k for k, v in current.items() if v.is_floating_point()]
        torch._foreach_lerp_([self.values[k] for k in floats], [current[k] for k in floats], 1 - decay)

    def load(self, values: dict[str, Tensor]) -> None:
        """Take the values of a checkpoint, on the network's device."""
        self.values = {name: value.to(self.values[name].device) for name, value in values.items()}

    def __enter__(self) -> None:
        self.kept = copy.deepcopy(trained_weights(self.network))
        self.network.load_state_dict(self.values, strict=False)
        self.network.eval()

    def __exit__(self, *_: object) -> None:
        self.network.load_state_dict(self.kept, strict=False)
        self.network.train()
