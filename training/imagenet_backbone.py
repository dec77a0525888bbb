"""ImageNet networks that perceptual distances look through, under torchvision's key names; frozen."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from models.errors import WeightsError
from models.foreign_weights import read_weights
from models.vgg16 import IMAGENET_MEAN, IMAGENET_STD, vgg16_features

BackboneName = Literal["alex", "vgg", "squeeze"]


class Fire(nn.Module):
    """SqueezeNet's block: a narrow 1x1 convolution, then 1x1 and 3x3 ones side by side."""

    def __init__(self, inputs: int, narrow: int, wide: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, narrow, 1)
        self.expand1x1 = nn.Conv2d(narrow, wide, 1)
        self.expand3x3 = nn.Conv2d(narrow, wide, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


def _alexnet() -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    layers += [nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    for inputs, outputs in ((192, 384), (384, 256), (256, 256)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers)


def _squeezenet() -> nn.Sequential:
    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    layers = [nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool(), Fire(64, 16, 64), Fire(128, 16, 64), pool()]
    layers += [Fire(128, 32, 128), Fire(256, 32, 128), pool(), Fire(256, 48, 192), Fire(384, 48, 192)]
    return nn.Sequential(*layers, Fire(384, 64, 256), Fire(512, 64, 256))


#: The layers that LPIPS compares, by torchvision's numbers.
TAPS: dict[BackboneName, tuple[int, ...]] = {
    "alex": (1, 4, 7, 9, 11),
    "vgg": (3, 8, 15, 22, 29),
    "squeeze": (1, 4, 7, 9, 10, 11, 12),
}


class ImageNetBackbone(nn.Module):
    """`features` of AlexNet, VGG16 or SqueezeNet 1.1 with the weights of a torchvision state dict.

    Raises:
        WeightsError: the file is missing, damaged or of another network.
    """

    def __init__(self, name: BackboneName, weights: Path) -> None:
        super().__init__()
        self.name = name
        self.features = {"alex": _alexnet, "vgg": lambda: vgg16_features(29), "squeeze": _squeezenet}[name]()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1))
        self.mean: Tensor
        self.std: Tensor
        state = {key: value.float() for key, value in read_weights(weights).items() if key.startswith("features.")}
        try:
            self.features.load_state_dict({key.removeprefix("features."): value for key, value in state.items()})
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise WeightsError(f"{weights} is no torchvision state dict of this network ({name}): {reason}") from None
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """What the layers of TAPS give for RGB images `[B, 3, H, W]` in [-1, 1]."""
        x, taps, found = ((images + 1) / 2 - self.mean) / self.std, TAPS[self.name], []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in taps:
                found.append(x)
        return found


def wheel_file(package: str, inside: str) -> Path:
    """A file of an installed package, which is not imported: the packages meant here would import torchvision.

    Raises:
        WeightsError: the package is not installed.
    """
    spec = find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    path = Path(next(iter(folders))) / inside if folders else None
    if path is None or not path.is_file():
        wheels = {"lpips": "lpips==0.1.4", "DISTS_pytorch": "dists-pytorch==0.1"}
        raise WeightsError(f"{package}/{inside} is missing: pip install --no-deps {wheels.get(package, package)}")
    return path
