"""What a training stage tells the trainer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.utils.data import Dataset

Batch = dict[str, Tensor]


class TrainingConfig(BaseModel):
    """Settings that every stage shares; a stage's own config extends it. Read from YAML, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Path
    """Folder of aligned faces: see training.faces.load_faces."""
    run: Path
    """Folder of the run: checkpoints, scalars, pictures and the exported component."""
    steps: int
    batch: int
    learning_rate: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.0
    gradient_clip: float = 1.0
    ema: float = 0.999
    precision: Literal["bf16", "fp32"] = "bf16"
    seed: int = 0
    workers: int = 1
    threads: int = 2
    checkpoint_seconds: float = 180.0
    picture_seconds: float = 600.0


class Stage(Protocol):
    """One thing to train. A sample's number is its seed, so that a resumed run goes on where it stopped."""

    network: nn.Module
    dataset: Dataset[Batch]

    def losses(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """Weighted scalar losses of one batch; the trainer minimises their sum."""
        ...

    def validate(self) -> Mapping[str, float]:
        """Figures on the validation split, with the averaged weights in place."""
        ...

    def pictures(self) -> Tensor | None:
        """A sheet `[3, H, W]` in 0..1 for people to look at."""
        ...

    def export(self, folder: Path) -> None:
        """Write the finished component(s) as safetensors."""
        ...
