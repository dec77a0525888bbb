"""A stage of two layers that trains in milliseconds: it learns to negate, from samples numbered as any stage's."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from training.stage import Batch, Opponent, Stage, TrainingConfig


class ToyConfig(TrainingConfig):
    width: int = 4
    adversarial: bool = False


class ToyDataset(Dataset[Batch]):
    def __getitem__(self, number: int) -> Batch:
        return {"x": torch.randn(3, generator=torch.Generator().manual_seed(number))}


class Killed(Exception):
    """Stands for a kill: the process is gone between two steps."""


class ToyOpponent(Opponent):
    """Tells answers from the right ones, with noise of its own on both."""

    case: tuple[Tensor, Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def losses(self, step: int) -> Mapping[str, Tensor]:
        answer, right = (self.layer(x + 0.1 * torch.randn(x.shape)) for x in self.case)
        return {"discriminator": (nn.functional.softplus(answer) + nn.functional.softplus(-right)).mean()}


class ToyStage(Stage):
    """Also draws from the global generator, as stages do that pick crops; can be killed and poisoned at given steps."""

    def __init__(
        self, config: ToyConfig, kill_at: int | None = None, poison: range = range(0), poisoned_gradient: bool = False
    ) -> None:
        torch.manual_seed(7)
        self.adversary: ToyOpponent | None = None
        self.network = nn.Sequential(
            nn.Linear(3, config.width), nn.BatchNorm1d(config.width), nn.Linear(config.width, 3)
        )
        self.network.register_module("frozen", nn.Linear(2, 2).requires_grad_(False))
        self.dataset = ToyDataset()
        if config.adversarial:
            self.adversary = ToyOpponent()
        self.kill_at, self.poison, self.poisoned_gradient = kill_at, poison, poisoned_gradient
        self.seen: list[dict[str, Tensor]] = []
        self.samples: list[Tensor] = []
        self.modes: list[bool] = []

    def losses(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        if step == self.kill_at:
            raise Killed
        self.seen.append({k: v.detach().clone() for k, v in self.network.state_dict().items()})
        self.samples.append(batch["x"].clone())
        x = batch["x"] + 0.1 * torch.randn(batch["x"].shape)
        answer = self.network[2](self.network[1](self.network[0](x)))
        error = (answer + x).square().mean()
        if step in self.poison:
            weight: Tensor = self.network[0].weight
            error = error + ((0 * weight).sum().sqrt() if self.poisoned_gradient else torch.nan * weight.sum())
        losses = {"error": error}
        if self.adversary is not None:
            self.adversary.case = answer.detach(), -x
            losses["gan"] = 0.1 * nn.functional.softplus(-self.adversary.layer(answer)).mean()
        return losses

    def validate(self) -> Mapping[str, float]:
        self.modes.append(self.network.training)
        torch.randn(5)  # a report draws as well, and must not change what training draws
        return {"weight": float(self.network[0].weight.mean())}

    def pictures(self) -> Tensor:
        return torch.rand(3, 4, 6)

    def export(self, folder: Path) -> None:
        save_file({k: v.contiguous() for k, v in self.network.state_dict().items()}, folder / "toy.safetensors")
