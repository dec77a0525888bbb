"""The tiny profile's UNet: diffusers' call, without its norms and timestep, for one step of a small network."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True)
class TinyUNetConfig:
    """`widths` are the channels of each level, `blocks` its residual blocks on the way down, and up but in the middle.

    The last `in_channels - out_channels` channels of the input say where a place is; every level is told.
    `prompt_width` is that of the prompt's tokens.
    """

    in_channels: int
    out_channels: int
    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    prompt_width: int
    heads: int = 4


class ResidualBlock(nn.Module):
    """Two convolutions; it starts as the identity. No norm: how bright and how rough a face is must come through."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        assert self.conv2.bias is not None
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv2(F.silu(self.conv1(F.silu(x))))
        return out


class Halve(nn.Module):
    """Half the size, other channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class Double(nn.Module):
    """Twice the size, other channels: each place is given its four."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, 4 * outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), 2)


class Encoder(nn.Module):
    """The way down to the middle, where the places of the picture attend to each other and to the prompt."""

    def __init__(self, config: TinyUNetConfig) -> None:
        from diffusers.models.attention import BasicTransformerBlock

        super().__init__()
        widths, places = config.widths, config.in_channels - config.out_channels
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.levels = nn.ModuleList(_blocks(w, count) for w, count in zip(widths, config.blocks, strict=True))
        self.down = nn.ModuleList(Halve(a, b) for a, b in pairwise(widths))
        self.places = nn.ModuleList(nn.Conv2d(places, w, 1, bias=False) for w in widths[1:]) if places else None
        self.attend = nn.ModuleList(
            BasicTransformerBlock(
                widths[-1], config.heads, widths[-1] // config.heads, cross_attention_dim=config.prompt_width
            )
            for _ in range(config.blocks[-1])
        )
        self._places = places

    def forward(self, sample: Tensor, prompt: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The middle's features `[B, C, h, w]` and those of each level above it, finest first."""
        x, skips = self.conv_in(sample), []
        for level, blocks in enumerate(self.levels[:-1]):
            x = blocks(x)
            skips.append(x)
            x = self.down[level](x)
            if self.places is not None:
                x = x + self.places[level](F.avg_pool2d(sample[:, -self._places :], 2 ** (level + 1)))
        for block, attend in zip(self.levels[-1].children(), self.attend, strict=True):
            x = block(x)
            row = attend(x.flatten(2).transpose(1, 2), encoder_hidden_states=prompt)
            x = row.transpose(1, 2).unflatten(2, x.shape[2:])
        return x, skips


class TinyUNet(nn.Module):
    """From a latent and the maps of its places to a prediction; called as diffusers' UNet2DConditionModel."""

    def __init__(self, config: TinyUNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.encoder = Encoder(config)
        self.up = nn.ModuleList(Double(b, a) for a, b in pairwise(widths))
        self.levels = nn.ModuleList(_blocks(w, count) for w, count in zip(widths[:-1], config.blocks[:-1], strict=True))
        self.conv_out = nn.Conv2d(widths[0], config.out_channels, 3, padding=1)
        self.damping = nn.Conv2d(widths[0], config.out_channels, 3, padding=1)
        nn.init.zeros_(self.damping.weight)
        assert self.damping.bias is not None
        nn.init.zeros_(self.damping.bias)
        self._keep_less = False

    def enable_gradient_checkpointing(self) -> None:
        """Compute the way down and each level of the way up twice instead of keeping what is between them."""
        self._keep_less = True

    @property
    def dtype(self) -> torch.dtype:
        """Of its weights."""
        return self.conv_out.weight.dtype

    def forward(
        self,
        sample: Tensor,
        timestep: object,
        encoder_hidden_states: Tensor,
        down_block_additional_residuals: Sequence[Tensor] | None = None,
        mid_block_additional_residual: Tensor | None = None,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        """The prediction `[B, out_channels, h, w]` for a sample `[B, in_channels, h, w]` under a prompt `[B, n, k]`.

        It knows one step alone: the `timestep` says nothing to it. The residuals join the skips of the levels above
        the middle, finest first, and the middle. Part of the prediction is the sample itself, by as much as `damping`
        says of each place and channel: grain is taken away by a factor instead of being drawn again (docs/adr/023).
        """
        x, skips = self._run(self.encoder, sample, encoder_hidden_states)
        if mid_block_additional_residual is not None:
            x = x + mid_block_additional_residual
        if down_block_additional_residuals is not None:
            skips = [skip + more for skip, more in zip(skips, down_block_additional_residuals, strict=True)]
        for level in reversed(range(len(skips))):
            x = self._run(self.levels[level], self.up[level](x) + skips[level])
        return (self.conv_out(x) + self.damping(x) * sample[:, : self.config.out_channels],)

    def _run(self, part: nn.Module, *inputs: Tensor) -> Any:
        return checkpoint(part, *inputs, use_reentrant=False) if self._keep_less and self.training else part(*inputs)


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(count)))
