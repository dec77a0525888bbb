"""Which perceptual distance a stage trains on, as a setting."""

from pathlib import Path
from typing import Literal

import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from training.dists import DISTS
from training.edge_aware_dists import EdgeAware
from training.feature_distance import VGG16FeatureDistance
from training.imagenet_backbone import BackboneName
from training.lpips import LPIPS

LPIPS_NETS: dict[str, BackboneName] = {"lpips-alex": "alex", "lpips-vgg": "vgg", "lpips-squeeze": "squeeze"}


class PerceptualConfig(BaseModel):
    """`backbone` is VGG16 in Caffe's order for "vgg16-features", torchvision's state dict for LPIPS and DISTS.

    `layers` are those of "vgg16-features", in torchvision's numbering. `weights` are LPIPS's linear ones or
    DISTS's alpha and beta, by default out of the installed wheel. `edges` adds the distance of the edges (Eq. 9).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["vgg16-features", "lpips-alex", "lpips-vgg", "lpips-squeeze", "dists", "mse"]
    backbone: Path | None = None
    layers: tuple[int, ...] = Field((2, 7), min_length=1)
    weights: Path | None = None
    edges: bool = False

    def model_post_init(self, _: object) -> None:
        if (self.kind == "mse") != (self.backbone is None):
            raise ValueError(f"{self.kind} {'needs a' if self.backbone is None else 'has no'} backbone")


class MeanSquaredError(nn.Module):
    """The distance that the paper advises against (Table 3b): faces come out too smooth."""

    name = "MSE"

    def forward(self, restored: Tensor, truth: Tensor) -> Tensor:
        return F.mse_loss(restored.float(), truth.float())


def perceptual_distance(config: PerceptualConfig) -> nn.Module:
    """A frozen distance of RGB images `[B, 3, H, W]` in [-1, 1] with a `name`; a scalar, gradients to the first."""
    distance: nn.Module
    if config.backbone is None:
        distance = MeanSquaredError()
    elif config.kind == "vgg16-features":
        distance = VGG16FeatureDistance(config.backbone, config.layers)
    elif config.kind == "dists":
        distance = DISTS(config.backbone, config.weights)
    else:
        distance = LPIPS(LPIPS_NETS[config.kind], config.backbone, config.weights)
    return EdgeAware(distance) if config.edges else distance
