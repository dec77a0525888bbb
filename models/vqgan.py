"""The convolutional encoder and decoder of VQGAN, with the key names of the checkpoints trained with it.

Weights of the field (taming-transformers, RestoreFormer, DAEFR, OSDFace) name their parts `conv_in`, `down.i.block.j`,
`mid.block_1`, `up.i.block.j`, `norm_out`, `conv_out`; so do these modules.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


def _norm(channels: int, groups: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups, channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; `[B, inputs, h, w] -> [B, outputs, h, w]`."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.norm1 = _norm(inputs, groups)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = _norm(outputs, groups)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        out: Tensor = hidden + (x if self.nin_shortcut is None else self.nin_shortcut(x))
        return out


class AttentionBlock(nn.Module):
    """Single-head self-attention over all positions of `[B, C, h, w]`, added to its input."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm1 = _norm(channels, groups)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        q, k, v = (part(normed).flatten(2).transpose(1, 2) for part in (self.q, self.k, self.v))
        attended = F.scaled_dot_product_attention(q.unsqueeze(1), k.unsqueeze(1), v.unsqueeze(1)).squeeze(1)
        out: Tensor = x + self.proj_out(attended.transpose(1, 2).reshape(x.shape))
        return out


class Downsample(nn.Module):
    """Halves `[B, C, h, w]` by a strided convolution, padded on the right and the bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return out


class Upsample(nn.Module):
    """Doubles `[B, C, h, w]`: nearest neighbour, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


class Level(nn.Module):
    """The blocks of one resolution, then what leads to the next.

    `attn` is empty or holds one attention block for each residual block.
    """

    def __init__(self, inputs: int, outputs: int, blocks: int, attention: bool, groups: int) -> None:
        super().__init__()
        widths = [inputs] + [outputs] * (blocks - 1)
        self.block = nn.ModuleList(ResidualBlock(width, outputs, groups) for width in widths)
        self.attn = nn.ModuleList(AttentionBlock(outputs, groups) for _ in widths if attention)
        self.downsample: Downsample | None = None
        self.upsample: Upsample | None = None

    def forward(self, x: Tensor) -> Tensor:
        for index, block in enumerate(self.block):
            x = block(x)
            if len(self.attn) > 0:
                x = self.attn[index](x)
        for resample in (self.downsample, self.upsample):
            if resample is not None:
                x = resample(x)
        return x


class Middle(nn.Module):
    """Residual, attention, residual at the lowest resolution."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, groups)
        self.attn_1 = AttentionBlock(channels, groups)
        self.block_2 = ResidualBlock(channels, channels, groups)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return out


class Encoder(nn.Module):
    """Picture `[B, 3, s, s]` to features `[B, width, s / f, s / f]` with f = 2 ** (len(multipliers) - 1).

    `resolution` is the picture's side at which `attention_resolutions` are meant; other sides work too.
    """

    def __init__(
        self,
        *,
        resolution: int,
        channels: int,
        multipliers: Sequence[int],
        residual_blocks: int,
        attention_resolutions: Sequence[int],
        width: int,
        groups: int = 32,
    ) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, channels, 3, padding=1)
        self.down = nn.ModuleList()
        inputs = channels
        for index, multiplier in enumerate(multipliers):
            outputs = channels * multiplier
            attention = resolution >> index in attention_resolutions
            level = Level(inputs, outputs, residual_blocks, attention, groups)
            if index != len(multipliers) - 1:
                level.downsample = Downsample(outputs)
            self.down.append(level)
            inputs = outputs
        self.mid = Middle(inputs, groups)
        self.norm_out = _norm(inputs, groups)
        self.conv_out = nn.Conv2d(inputs, width, 3, padding=1)

    def forward(self, picture: Tensor) -> Tensor:
        x = self.conv_in(picture)
        for level in self.down:
            x = level(x)
        out: Tensor = self.conv_out(F.silu(self.norm_out(self.mid(x))))
        return out


class Decoder(nn.Module):
    """The encoder's mirror: `[B, width, s / f, s / f]` to a picture `[B, 3, s, s]`; one block more a level."""

    def __init__(
        self,
        *,
        resolution: int,
        channels: int,
        multipliers: Sequence[int],
        residual_blocks: int,
        attention_resolutions: Sequence[int],
        width: int,
        groups: int = 32,
    ) -> None:
        super().__init__()
        inputs = channels * multipliers[-1]
        self.conv_in = nn.Conv2d(width, inputs, 3, padding=1)
        self.mid = Middle(inputs, groups)
        levels: list[Level] = []
        for index in reversed(range(len(multipliers))):
            outputs = channels * multipliers[index]
            attention = resolution >> index in attention_resolutions
            level = Level(inputs, outputs, residual_blocks + 1, attention, groups)
            if index != 0:
                level.upsample = Upsample(outputs)
            levels.insert(0, level)  # `up.0` is the highest resolution, as in the checkpoints
            inputs = outputs
        self.up = nn.ModuleList(levels)
        self.norm_out = _norm(inputs, groups)
        self.conv_out = nn.Conv2d(inputs, 3, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        x = self.mid(self.conv_in(features))
        for level in reversed(self.up):
            x = level(x)
        out: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return out
