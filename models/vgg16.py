"""VGG16's convolutions, under torchvision's key names."""

from torch import nn

#: Channels of the convolutions; "pool" halves the picture. Layer numbers count convolutions, ReLUs and pools from 0.
_LAYOUT: tuple[int | str, ...] = (
    64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512, "pool",
)  # fmt: skip

#: What the ImageNet weights of this network expect of RGB in 0..1.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def vgg16_features(last: int = 30) -> nn.Sequential:
    """torchvision's `features` up to and with layer `last` (30 is all: 13 convolutions, 14.715 M parameters).

    It takes pictures `[B, 3, H, W]` that are normalised by the mean and deviation above.
    """
    layers: list[nn.Module] = []
    inputs = 3
    for item in _LAYOUT:
        if isinstance(item, int):
            layers += [nn.Conv2d(inputs, item, 3, padding=1), nn.ReLU()]
            inputs = item
        else:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers[: last + 1])
