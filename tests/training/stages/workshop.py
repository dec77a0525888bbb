"""Settings of the restoration stages that one step on drawn faces can be made with."""

from dataclasses import dataclass
from pathlib import Path

from training.perceptual_distance import PerceptualConfig
from training.stages.baseline import BaselineConfig
from training.stages.honestface import HonestFaceStageConfig


@dataclass(frozen=True)
class Workshop:
    """Folders and files that the stages need."""

    data: Path
    vgg16: Path
    runs: Path

    def baseline(self) -> BaselineConfig:
        return BaselineConfig(
            data=self.data,
            perceptual=PerceptualConfig(kind="vgg16-features", backbone=self.vgg16),
            vae=self.runs / "vae.safetensors",
            vre=self.runs / "vre.safetensors",
            run=self.runs / "baseline",
            steps=1,
            batch=1,
            crop_side=128,
            decoded_side=64,
            feature_side=32,
        )

    def honestface(self) -> HonestFaceStageConfig:
        return HonestFaceStageConfig(
            **self.baseline().model_dump(exclude_unset=True, exclude={"run", "vae", "vre"}),
            run=self.runs / "honestface",
            baseline=self.runs / "baseline",
            landmarks=self.runs / "landmarks.safetensors",
            identity=self.runs / "identity.safetensors",
            lora_rank=4,
            reference_dropout=0.0,
            wrong_person=0.0,
        )
