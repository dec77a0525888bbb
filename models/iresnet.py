"""iResNet, the network of ArcFace, under the key names of insightface's arcface_torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from models.errors import WeightsError
from models.geometry import arcface_crop

#: Residual blocks of the four stages, by depth.
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}


@dataclass(frozen=True)
class IResNetConfig:
    """Residual blocks and channels of the four stages; `width` is the embedding's."""

    blocks: tuple[int, int, int, int]
    channels: tuple[int, int, int, int] = (64, 128, 256, 512)
    width: int = 512
    kind: Literal["iresnet"] = "iresnet"

    @property
    def depth(self) -> int:
        """Convolutions and the linear layer, as the network's name counts them."""
        return 2 * sum(self.blocks) + 2


class Block(nn.Module):
    """Pre-normalised residual block; the second convolution carries the stride."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
            if stride != 1 or inputs != outputs
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        out: Tensor = self.bn3(self.conv2(hidden)) + (x if self.downsample is None else self.downsample(x))
        return out


class IResNet(nn.Module):
    """ArcFace-112 crops `[B, 3, 112, 112]`, RGB in [-1, 1], to embeddings `[B, width]`, not normalised."""

    def __init__(self, config: IResNetConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.conv1 = nn.Conv2d(3, channels[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.prelu = nn.PReLU(channels[0])
        inputs = channels[0]
        for stage, (count, outputs) in enumerate(zip(config.blocks, channels, strict=True), 1):
            # Each stage halves the picture: 112 pixels become 7.
            first = Block(inputs, outputs, stride=2)
            self.add_module(
                f"layer{stage}", nn.Sequential(first, *(Block(outputs, outputs, 1) for _ in range(count - 1)))
            )
            inputs = outputs
        self.bn2 = nn.BatchNorm2d(inputs)
        self.fc = nn.Linear(inputs * 7 * 7, config.width)
        self.features = nn.BatchNorm1d(config.width)

    def forward(self, crops: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(crops)))
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        embeddings: Tensor = self.features(self.fc(self.bn2(x).flatten(1)))
        return embeddings


def iresnet(depth: int) -> IResNet:
    """The published network of this depth: 43.59 M parameters for 50, 65.16 M for 100."""
    return IResNet(IResNetConfig(BLOCKS[depth]))


def iresnet_config_for(state: Mapping[str, Tensor], source: str) -> IResNetConfig:
    """The shapes of the iResNet whose weights `state` holds; raises `WeightsError` where it is none."""
    prefixes = [f"layer{stage}." for stage in range(1, 5)]
    try:
        channels = tuple(state[f"{prefix}0.bn3.weight"].shape[0] for prefix in prefixes)
        width = state["fc.weight"].shape[0]
    except KeyError as missing:
        raise WeightsError(f"{source}: not the weights of an iResNet: {missing.args[0]} is missing") from None
    blocks = tuple(len({key.split(".")[1] for key in state if key.startswith(prefix)}) for prefix in prefixes)
    # four of each, by the loop over the stages
    return IResNetConfig(blocks, channels, width)  # type: ignore[arg-type]


class ArcFaceIdentityEncoder:
    """An iResNet as an `IdentityEncoder` of FFHQ-512-aligned faces; differentiable."""

    def __init__(self, network: IResNet, name: str) -> None:
        self.network, self._name = network.eval(), name

    @property
    def name(self) -> str:
        return self._name

    @property
    def width(self) -> int:
        return self.network.config.width

    def embed(self, faces: Tensor) -> Tensor:
        return F.normalize(self.network(arcface_crop(faces)).float(), dim=1)
