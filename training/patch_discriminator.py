"""A discriminator of decoded pixels, patch by patch (PatchGAN with spectral normalisation)."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class PatchDiscriminator(nn.Module):
    """Scores (logits) `[B, 1, H/8 - 2, W/8 - 2]` of pictures `[B, 3, H, W]` in [-1, 1], each seeing 70 x 70 pixels.

    `width` channels at half the size, doubled at each halving. It knows texture, not faces: it may be shown any crop.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = (3, width, 2 * width, 4 * width)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [spectral_norm(nn.Conv2d(inputs, outputs, 4, 2, 1)), nn.LeakyReLU(0.2)]
        layers += [spectral_norm(nn.Conv2d(4 * width, 8 * width, 4, 1, 1)), nn.LeakyReLU(0.2)]
        layers += [spectral_norm(nn.Conv2d(8 * width, 1, 4, 1, 1))]
        self.layers = nn.Sequential(*layers)

    def forward(self, pictures: Tensor) -> Tensor:
        scores: Tensor = self.layers(pictures)
        return scores
