"""A network with its optimiser: the generator, and where there is one, the adversary it alternates with."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from training.muon import MuonAndAdamW

Losses = Mapping[str, Tensor]


class _Forward(nn.Module):
    """The computation of a network's losses as a forward pass: DistributedDataParallel must see that one."""

    def __init__(self, network: nn.Module, losses: Callable[..., Losses]) -> None:
        super().__init__()
        self.network, self.losses = network, losses

    def forward(self, *arguments: Any) -> dict[str, Tensor]:
        return dict(self.losses(*arguments))


class Learner:
    """Accumulates gradients of a network's losses and steps its optimiser, unless a gradient is not finite.

    Then `written`, what forward passes write themselves, is put back as it was at `begin`.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        network: nn.Module,
        losses: Callable[..., Losses],
        written: Callable[[], Iterable[Tensor]],
        learning_rate: float,
        weight_decay: float,
        betas: tuple[float, float],
        optimizer: Literal["adamw", "muon"] = "adamw",
    ) -> None:
        self.accelerator, self.network, self.learning_rate = accelerator, network, learning_rate
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.written = written  # asked for anew each time: DistributedDataParallel puts other buffers in place
        self.optimizer: torch.optim.AdamW | MuonAndAdamW = (
            MuonAndAdamW(network, learning_rate, weight_decay, betas)
            if optimizer == "muon"
            else torch.optim.AdamW(self.parameters, lr=learning_rate, weight_decay=weight_decay, betas=betas)
        )
        self.forward = accelerator.prepare(_Forward(network, losses))

    def begin(self) -> None:
        """Remember what forward passes are about to write."""
        self.before = [value.detach().clone() for value in self.written()]

    def accumulate(self, *arguments: Any, share: float, last: bool) -> dict[str, Tensor]:
        """Add the gradients of one batch, which is `share` of the step's; devices agree at the `last`."""
        with nullcontext() if last else self.accelerator.no_sync(self.forward):
            losses: dict[str, Tensor] = self.forward(*arguments)
            total = torch.stack([loss.float() for loss in losses.values()]).sum()
            self.accelerator.backward(share * total)
        return {name: loss.detach() for name, loss in losses.items()}

    def step(self, progress: float, clip: float) -> bool:
        """One step at `progress` (0..1) of the learning rate; False if it was left out for its gradient, which all
        processes share."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * progress
        finite = bool(torch.isfinite(nn.utils.clip_grad_norm_(self.parameters, clip)))
        if finite:
            self.optimizer.step()
        else:
            for value, before in zip(self.written(), self.before, strict=True):
                value.detach().copy_(before)
        self.optimizer.zero_grad(set_to_none=True)
        return finite

    def thaw(self, on: bool) -> None:
        """Let gradients into the trained parameters or not, for the other player's turn."""
        for parameter in self.parameters:
            parameter.requires_grad_(on)
