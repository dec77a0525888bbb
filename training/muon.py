"""Muon for the matrices inside a network, AdamW for everything else."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.precision import cpu_multiplies_bfloat16

#: The layers that meet the picture and the answer: their rows and columns are colours, not features to be mixed.
_OUTER = ("conv_in", "conv_out", "damping")
#: Share of the mean gradient that a step keeps.
_MOMENTUM = 0.95
#: The quintic iteration of Newton and Schulz in Jordan's tuning.
_NEWTON_SCHULZ, _ITERATIONS = (3.4445, -4.7750, 2.0315), 5


class Muon(torch.optim.Optimizer):
    """Muon of matrices with Nesterov's momentum and decoupled weight decay, as torch.optim.Muon with "match_rms_adamw".

    That one rounds to bfloat16 always, which takes a CPU without units for it twenty times as long as float32; this one
    takes `dtype`.
    """

    def __init__(self, weights: Sequence[nn.Parameter], lr: float, weight_decay: float, dtype: torch.dtype) -> None:
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(weight)
                mean = state["momentum_buffer"].lerp_(weight.grad, 1 - _MOMENTUM)
                matrix = weight.grad.lerp(mean, _MOMENTUM).flatten(1)
                update = orthogonal(matrix, self.dtype).reshape(weight.shape)
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.sub_(0.2 * max(matrix.shape) ** 0.5 * group["lr"] * update)


def orthogonal(matrix: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """A matrix with its singular values brought near to 1 (0.68 to 1.14), in its own precision, computed in `dtype`."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).to(dtype)
    x = x / x.norm().clamp_min(1e-7)
    a, b, c = _NEWTON_SCHULZ
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)


class MuonAndAdamW:
    """One optimiser of two: it steps, saves and loads both.

    Muon moves a weight by its momentum made orthogonal, so that no direction of a layer is left behind (Jordan et al.,
    2024). It takes the trained weights of linear and convolution layers, a convolution as the matrix
    `[out, in * kH * kW]`; biases, norms, maps and the outermost layers are AdamW's. Muon's steps are scaled to AdamW's
    usual size: both share one learning rate.
    """

    def __init__(
        self, network: nn.Module, learning_rate: float, weight_decay: float, betas: tuple[float, float]
    ) -> None:
        self.weights = hidden_weights(network)
        inside = {id(weight) for weight in self.weights}
        rest = [p for p in network.parameters() if p.requires_grad and id(p) not in inside]
        quick = any(weight.is_cuda for weight in self.weights) or cpu_multiplies_bfloat16()
        dtype = torch.bfloat16 if quick else torch.float32
        self._muon = Muon(self.weights, learning_rate, weight_decay, dtype)
        self._adamw = torch.optim.AdamW(rest, lr=learning_rate, weight_decay=weight_decay, betas=betas)
        self.param_groups: list[dict[str, Any]] = [*self._muon.param_groups, *self._adamw.param_groups]

    @property
    def state(self) -> dict[Tensor, dict[str, Any]]:
        """What both remember of each weight."""
        return {**self._muon.state, **self._adamw.state}

    def step(self) -> None:
        """Move all weights that have gradients."""
        self._muon.step()
        self._adamw.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        self._muon.zero_grad(set_to_none)
        self._adamw.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self._muon.state_dict(), "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._muon.load_state_dict(state["muon"])
        self._adamw.load_state_dict(state["adamw"])
        self.param_groups = [*self._muon.param_groups, *self._adamw.param_groups]


def hidden_weights(network: nn.Module) -> list[nn.Parameter]:
    """The trained weights of linear and convolution layers, but of the outermost ones."""
    layers = [
        layer
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d) and not set(_OUTER) & set(name.split("."))
    ]
    return [weight for layer in layers if (weight := dict(layer.named_parameters())["weight"]).requires_grad]
