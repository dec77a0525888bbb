"""VGG16's convolutions, under torchvision's key names."""

import torch
from torch import Tensor, nn

#: Channels of the convolutions; "pool" halves the picture. Layer numbers count convolutions, ReLUs and pools from 0.
_LAYOUT: tuple[int | str, ...] = (
    64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512, "pool",
)  # fmt: skip

#: What the ImageNet weights of this network expect of RGB in 0..1.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def _layers() -> list[nn.Module]:
    layers: list[nn.Module] = []
    inputs = 3
    for item in _LAYOUT:
        if isinstance(item, int):
            layers += [nn.Conv2d(inputs, item, 3, padding=1), nn.ReLU()]
            inputs = item
        else:
            layers.append(nn.MaxPool2d(2))
    return layers


class VGG16(nn.Module):
    """`features` of VGG16 up to and with layer `last` (30 is all: 13 convolutions, 14.715 M parameters).

    Pictures are `[B, 3, H, W]`, RGB in [-1, 1]; the ImageNet normalisation happens inside.
    """

    def __init__(self, last: int = 30) -> None:
        super().__init__()
        layers = _layers()
        if not 0 <= last < len(layers):
            raise ValueError(f"VGG16 has layers 0 to {len(layers) - 1}, not {last}")
        self.features = nn.Sequential(*layers[: last + 1])
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def layers(self, pictures: Tensor, wanted: tuple[int, ...]) -> dict[int, Tensor]:
        """Outputs of the layers `wanted`, by number; a convolution's is taken before its ReLU."""
        x = (pictures.add(1).mul(0.5) - self.mean) / self.std
        outputs = {}
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in wanted:
                outputs[number] = x
        if missing := set(wanted) - set(outputs):
            raise ValueError(f"this VGG16 ends at layer {len(self.features) - 1}: it has no layer {min(missing)}")
        return outputs

    def forward(self, pictures: Tensor) -> Tensor:
        last = len(self.features) - 1
        return self.layers(pictures, (last,))[last]
