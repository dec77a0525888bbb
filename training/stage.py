"""What a training stage tells the trainer."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.utils.data import Dataset

from training.degradation import PRESETS

Batch = dict[str, Tensor]

#: What a loss counts.
Weight = Annotated[float, Field(ge=0)]


def _known(preset: str) -> str:
    if preset not in PRESETS:
        raise ValueError(f"is one of {', '.join(PRESETS)}, not {preset}")
    return preset


#: Names of training.degradation.PRESETS, one at least.
Presets = Annotated[tuple[Annotated[str, AfterValidator(_known)], ...], Field(min_length=1)]


class TrainingConfig(BaseModel):
    """Settings that every stage shares; a stage's own config extends it. Read from YAML, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Path
    """Folder of aligned faces: see training.faces.load_faces."""
    held_out_people: int | None = Field(None, ge=1)
    """Of a folder with one folder a person: the first so many are for validation; by default every tenth is. An
    `index.csv` says it itself: then this is an error."""
    run: Path
    """Folder of the run: checkpoints, scalars, pictures and the exported component."""
    steps: int = Field(ge=0)
    batch: int = Field(ge=1)
    """Samples of one forward pass on one device; a step sees `batch * accumulate` of them on each."""
    accumulate: int = Field(1, ge=1)
    optimizer: Literal["adamw", "muon"] = "adamw"
    """Of the network; a discriminator has AdamW."""
    learning_rate: float = Field(1e-3, ge=0)
    discriminator_learning_rate: float = Field(2e-4, ge=0)
    warmup: int = Field(100, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    gradient_clip: float = Field(1.0, gt=0)
    ema: float = Field(0.999, ge=0, le=1)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Of forward and backward passes; `auto` is bf16 but on a CPU without units for it, where fp32 is faster."""
    seed: int = Field(0, ge=0, lt=2**63)
    workers: int = Field(1, ge=0)
    threads: int = Field(2, ge=1)
    checkpoint_seconds: float = 180.0
    picture_seconds: float = 600.0
    max_seconds: float | None = Field(None, ge=0)
    """Stop with a checkpoint after so long, for machines that are lent in slices: the same command goes on."""


class Opponent(nn.Module):
    """What a stage's network is trained against, in turns: it learns from what the network's losses showed it last."""

    @abstractmethod
    def losses(self, step: int) -> Mapping[str, Tensor]:
        """Its own weighted scalar losses."""


class Stage(ABC):
    """One thing to train. A sample's number is its seed, so that a resumed run goes on where it stopped.

    The trainer moves `network`, the frozen `teachers` and the `adversary` to its device, and batches with them; what a
    stage keeps to validate on stays on the CPU until it is used.
    """

    network: nn.Module
    dataset: Dataset[Batch]
    teachers: nn.Module | None = None
    adversary: Opponent | None = None

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def written(self) -> list[Tensor]:
        """What forward passes write themselves in training: the network's buffers. A step left out puts it back."""
        return list(self.network.buffers())

    @abstractmethod
    def losses(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """Weighted scalar losses of one batch; the trainer minimises their sum."""

    @abstractmethod
    def validate(self) -> Mapping[str, float]:
        """Figures on the validation split, with the averaged weights in place."""

    @abstractmethod
    def pictures(self) -> Tensor | None:
        """A sheet `[3, H, W]` in 0..1 for people to look at."""

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Write the finished component(s) as safetensors."""


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The batch's tensors on a device."""
    return {key: value.to(device, non_blocking=True) for key, value in batch.items()}
