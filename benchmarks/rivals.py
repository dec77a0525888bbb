"""The blind restorers that users would pick instead, as architectures with random weights: speed needs no others.

Written from their published shapes; the parameter counts are those of the released checkpoints (GFPGAN v1.4: 348.6 MB,
CodeFormer: 376.6 MB, four bytes each) within a few percent, which tests/benchmarks/test_rivals.py checks.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.vqgan import Decoder, Encoder, ResidualBlock

SIDE = 512


class _Residual(nn.Module):
    """Two 3x3 convolutions beside a 1x1 shortcut, all at the new size (`scale` 0.5 or 2)."""

    def __init__(self, inputs: int, outputs: int, scale: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inputs, 3, padding=1)
        self.conv2 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        out = F.leaky_relu(self.conv1(x), 0.2)
        out, x = (F.interpolate(t, scale_factor=self.scale, mode="bilinear") for t in (out, x))
        result: Tensor = F.leaky_relu(self.conv2(out), 0.2) + self.skip(x)
        return result


class _ModulatedConvolution(nn.Module):
    """StyleGAN2's: the weight is scaled by the style and normalised again, for each image by itself."""

    def __init__(self, inputs: int, outputs: int, size: int, style: int = 512, demodulate: bool = True) -> None:
        super().__init__()
        self.modulation = nn.Linear(style, inputs)
        self.weight = nn.Parameter(torch.randn(1, outputs, inputs, size, size) / (inputs * size**2) ** 0.5)
        self.demodulate = demodulate

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        weight = self.weight * self.modulation(style)[:, None, :, None, None]
        if self.demodulate:
            weight = weight * (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
        out = F.conv2d(x.reshape(1, -1, height, width), weight.flatten(0, 1), padding="same", groups=batch)
        return out.view(batch, -1, height, width)


class GFPGANSize(nn.Module):
    """A U-Net that gives style codes and spatial conditions to a StyleGAN2 decoder with channel multiplier 2."""

    def __init__(self) -> None:
        super().__init__()
        channels = {4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64}
        sizes = list(channels)
        narrow = {size: width // 2 for size, width in channels.items()}
        self.enter = nn.Conv2d(3, narrow[SIDE], 1)
        downward = sizes[::-1]
        self.down = nn.ModuleList(_Residual(narrow[a], narrow[b], 0.5) for a, b in pairwise(downward))
        self.middle = nn.Conv2d(narrow[4], narrow[4], 3, padding=1)
        self.up = nn.ModuleList(_Residual(narrow[a], narrow[b], 2) for a, b in pairwise(sizes))
        self.conditions = nn.ModuleList(
            nn.ModuleList(
                nn.Sequential(nn.Conv2d(n, n, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(n, n, 3, padding=1))
                for _ in ("scale", "shift")
            )
            for n in (narrow[size] for size in sizes[1:])
        )
        self.styles = nn.Linear(narrow[4] * 16, 16 * 512)
        self.constant = nn.Parameter(torch.randn(1, channels[4], 4, 4))
        widths = list(channels.values())
        self.first = _ModulatedConvolution(widths[0], widths[0], 3)
        self.convolutions = nn.ModuleList(
            nn.ModuleList([_ModulatedConvolution(i, o, 3), _ModulatedConvolution(o, o, 3)]) for i, o in pairwise(widths)
        )
        self.to_rgb = nn.ModuleList(_ModulatedConvolution(w, 3, 1, demodulate=False) for w in widths)

    def forward(self, lq: Tensor) -> Tensor:
        x = F.leaky_relu(self.enter(lq), 0.2)
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        x = F.leaky_relu(self.middle(x), 0.2)
        styles = self.styles(x.flatten(1)).view(len(lq), 16, 512)
        conditions = []
        for block, pair in zip(self.up, self.conditions, strict=True):
            x = block(x + skips.pop())
            conditions.append([branch(x) for branch in pair])
        out = F.leaky_relu(self.first(self.constant.expand(len(lq), -1, -1, -1), styles[:, 0]), 0.2)
        picture: Tensor = self.to_rgb[0](out, styles[:, 1])
        for level, ((grow, keep), (scale, shift)) in enumerate(zip(self.convolutions, conditions, strict=True)):
            out = F.interpolate(out, scale_factor=2, mode="bilinear")
            out = F.leaky_relu(grow(out, styles[:, 2 * level + 1]), 0.2)
            same, steered = out.chunk(2, 1)
            out = torch.cat([same, steered * scale + shift], 1)
            out = F.leaky_relu(keep(out, styles[:, 2 * level + 2]), 0.2)
            picture = F.interpolate(picture, scale_factor=2, mode="bilinear")
            picture = picture + self.to_rgb[level + 1](out, styles[:, min(2 * level + 3, 15)])
        return picture


class CodeFormerSize(nn.Module):
    """A VQGAN of 1024 codes whose codes a transformer of nine layers predicts, with controllable skips (w > 0)."""

    def __init__(self) -> None:
        super().__init__()
        multipliers = (1, 2, 2, 4, 4, 8)
        steered = {32: 256, 64: 256, 128: 128, 256: 128}  # sides at which the encoder steers the decoder: channels
        shape = {"resolution": SIDE, "channels": 64, "multipliers": multipliers, "attention_resolutions": (16,)}
        self.encoder = Encoder(**shape, residual_blocks=2, width=256)  # type: ignore[arg-type]
        self.decoder = Decoder(**shape, residual_blocks=1, width=256)  # type: ignore[arg-type]
        self.codebook = nn.Embedding(1024, 256)
        self.position = nn.Parameter(torch.zeros(256, 512))
        self.enter = nn.Linear(256, 512)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(512, 8, 1024, activation="gelu", batch_first=True, norm_first=True)
            for _ in range(9)
        )
        self.codes = nn.Sequential(nn.LayerNorm(512), nn.Linear(512, 1024, bias=False))
        self.fuse = nn.ModuleDict(
            {
                str(side): nn.ModuleList(
                    [ResidualBlock(2 * width, width, 32)]
                    + [
                        nn.Sequential(
                            nn.Conv2d(width, width, 3, padding=1),
                            nn.LeakyReLU(0.2),
                            nn.Conv2d(width, width, 3, padding=1),
                        )
                        for _ in ("scale", "shift")
                    ]
                )
                for side, width in steered.items()
            }
        )

    def forward(self, lq: Tensor) -> Tensor:
        features = {}
        x = self.encoder.conv_in(lq)
        for level in self.encoder.down:
            for index, block in enumerate(level.block):
                x = block(x)
                if len(level.attn) > 0:
                    x = level.attn[index](x)
            features[x.shape[-1]] = x
            if level.downsample is not None:
                x = level.downsample(x)
        x = self.encoder.conv_out(F.silu(self.encoder.norm_out(self.encoder.mid(x))))
        tokens = self.enter(x.flatten(2).transpose(1, 2)) + self.position
        for layer in self.layers:
            tokens = layer(tokens)
        chosen = self.codebook(self.codes(tokens).argmax(-1)).transpose(1, 2).reshape(x.shape)
        x = self.decoder.mid(self.decoder.conv_in(chosen))
        for level in reversed(self.decoder.up):
            for index, block in enumerate(level.block):
                x = block(x)
                if len(level.attn) > 0:
                    x = level.attn[index](x)
            if (side := str(x.shape[-1])) in self.fuse:
                join, scale, shift = self.fuse[side]  # type: ignore[misc]
                steering = join(torch.cat([features[x.shape[-1]], x], 1))
                x = x + x * scale(steering) + shift(steering)
            if level.upsample is not None:
                x = level.upsample(x)
        out: Tensor = self.decoder.conv_out(F.silu(self.decoder.norm_out(x)))
        return out


#: Parameters of the released checkpoints, in millions.
RIVALS: dict[str, tuple[type[nn.Module], float]] = {
    "GFPGAN-size StyleGAN2 U-Net": (GFPGANSize, 87.2),
    "CodeFormer-size VQ transformer": (CodeFormerSize, 94.2),
}
