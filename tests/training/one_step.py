"""What every stage must be able to do: one step."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import default_collate

from training.stage import Stage


def one_step(stage: Stage, samples: Sequence[int] = (0,), step: int = 0) -> dict[str, Tensor]:
    """The losses of a batch of samples; they are finite and reach every trained parameter."""
    torch.manual_seed(0)
    stage.network.train()
    batch = default_collate([stage.dataset[number] for number in samples])
    losses = dict(stage.losses(batch, step))
    assert all(loss.ndim == 0 and loss.isfinite() and loss >= 0 for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    named = [(name, p) for name, p in stage.network.named_parameters() if p.requires_grad]
    assert named
    missing = [name for name, parameter in named if parameter.grad is None or not parameter.grad.isfinite().all()]
    stage.network.zero_grad()
    stage.network.eval()
    assert not missing, missing
    return {name: loss.detach() for name, loss in losses.items()}
