"""Visual representation embedder (VRE): the low-quality face as tokens of a learned dictionary (Eq. 7)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.vqgan import Encoder


@dataclass(frozen=True)
class VREConfig:
    """Shapes of a visual representation embedder.

    `double_normalisation` maps the picture from [-1, 1] to [-3, 1], which the released OSDFace weights were trained on.
    """

    image_size: int
    channels: int
    multipliers: tuple[int, ...]
    residual_blocks: int
    attention_resolutions: tuple[int, ...]
    embedding_width: int
    codebook_size: int
    prompt_width: int
    projection_width: int
    tokens: int = 77
    groups: int = 32
    double_normalisation: bool = False

    @classmethod
    def tiny(cls) -> "VREConfig":
        """16 x 16 positions of a 128 px picture; trained by this project."""
        return cls(
            image_size=128,
            channels=16,
            multipliers=(1, 2, 4, 4),
            residual_blocks=1,
            attention_resolutions=(16,),
            embedding_width=64,
            codebook_size=512,
            prompt_width=256,
            projection_width=128,
            groups=8,
        )

    @classmethod
    def sd21(cls) -> "VREConfig":
        """OSDFace's shapes: 16 x 16 positions of a 512 px picture, 1024 codes of width 512."""
        return cls(
            image_size=512,
            channels=64,
            multipliers=(1, 2, 2, 2, 4, 8),
            residual_blocks=2,
            attention_resolutions=(16,),
            embedding_width=512,
            codebook_size=1024,
            prompt_width=1024,
            projection_width=256,
            double_normalisation=True,
        )


def nearest_codes(embeddings: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """Distance to and index of the nearest of `codebook` `[K, D]` for `embeddings` `[B, P, D]`: two `[B, P]`.

    |e|^2 - 2 ec + |c|^2 in float64: how a matrix product rounds depends on the batch size, and in float32 that would
    decide which of two close codes wins.
    """
    e, c = embeddings.double(), codebook.double()
    squares = e.square().sum(-1, keepdim=True) - 2 * e @ c.T + c.square().sum(-1)
    nearest = squares.clamp(min=0).float().min(dim=-1)
    return nearest.values.sqrt(), nearest.indices


def select_tokens(embeddings: Tensor, codebook: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The `n` closest distinct codes of each item, closest first: tokens `[B, n, D]` and their codes `[B, n]`.

    Positions `[B, P, D]` take their nearest code, are sorted by distance (ties: the earlier position first), and every
    code is kept once. Where an item has fewer than `n` distinct codes the rest is zero rows of index -1.
    """
    batch, positions, _ = embeddings.shape
    with torch.no_grad():
        distances, codes = nearest_codes(embeddings, codebook)
        codes = codes.gather(1, distances.argsort(dim=1, stable=True))
        rank = torch.arange(positions, device=codes.device).expand(batch, -1)
        first_rank = torch.full((batch, codebook.shape[0]), positions, device=codes.device)
        first_rank = first_rank.scatter_reduce(1, codes, rank, reduce="amin")
        first = first_rank.gather(1, codes) == rank
        # A repeated code, and a code beyond the first n, go to slot n, which is cut off.
        slot = torch.where(first, first.cumsum(1) - 1, n).clamp(max=n)
        indices = torch.full((batch, n + 1), -1, device=codes.device).scatter(1, slot, codes)[:, :n]
    kept = indices >= 0
    tokens = F.embedding(indices.clamp(min=0), codebook)
    return torch.where(kept.unsqueeze(-1), tokens, tokens.new_zeros(())), indices


class Codebook(nn.Module):
    """The dictionary `[codebook_size, embedding_width]`."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size, width)
        nn.init.uniform_(self.embedding.weight, -1.0 / size, 1.0 / size)


class Projection(nn.Module):
    """Tokens `[B, n, inputs] -> [B, n, outputs]`: two 1x1 convolutions, SiLU after both."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(inputs, hidden, 1)
        self.conv2 = nn.Conv1d(hidden, outputs, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        return F.silu(self.conv2(F.silu(self.conv1(tokens.transpose(1, 2))))).transpose(1, 2)


class VisualRepresentationEmbedder(nn.Module):
    """Low-quality faces `[B, 3, H, W]`, RGB in [-1, 1], to prompt tokens `[B, tokens, prompt_width]` (Eq. 7)."""

    def __init__(self, config: VREConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(
            resolution=config.image_size,
            channels=config.channels,
            multipliers=config.multipliers,
            residual_blocks=config.residual_blocks,
            attention_resolutions=config.attention_resolutions,
            width=config.embedding_width,
            groups=config.groups,
        )
        self.quant_conv = nn.Conv2d(config.embedding_width, config.embedding_width, 1)
        self.quantize = Codebook(config.codebook_size, config.embedding_width)
        self.projection = Projection(config.embedding_width, config.projection_width, config.prompt_width)

    @property
    def codebook(self) -> Tensor:
        """The dictionary's codes `[codebook_size, embedding_width]`."""
        return self.quantize.embedding.weight

    def resize(self, lq: Tensor) -> Tensor:
        """To `image_size`: area average when shrinking, bilinear when enlarging."""
        size = (self.config.image_size, self.config.image_size)
        height, width = lq.shape[-2:]
        if height == width > size[0] and width % size[0] == 0:
            return F.avg_pool2d(lq, int(width) // size[0])  # the same average to the bit, sooner by OpenVINO
        if lq.shape[-2] > size[0] or lq.shape[-1] > size[1]:
            lq = F.interpolate(lq, size, mode="area")
        elif lq.shape[-2:] != size:
            lq = F.interpolate(lq, size, mode="bilinear", align_corners=False)
        return lq

    def prepare(self, lq: Tensor) -> Tensor:
        """What the encoder sees: resized and normalised."""
        lq = self.resize(lq)
        return (lq - 0.5) / 0.5 if self.config.double_normalisation else lq

    def encode(self, lq: Tensor) -> Tensor:
        """Embeddings `[B, P, embedding_width]` of all positions, in raster order."""
        features: Tensor = self.quant_conv(self.encoder(self.prepare(lq)))
        return features.flatten(2).transpose(1, 2)

    def quantise(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest code of every position: codes `[B, P, embedding_width]` and their indices `[B, P]`."""
        with torch.no_grad():
            _, indices = nearest_codes(embeddings, self.codebook)
        return F.embedding(indices, self.codebook), indices

    def select_tokens(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """The closest distinct codes: `[B, tokens, embedding_width]` and their indices `[B, tokens]`, or -1."""
        return select_tokens(embeddings, self.codebook, self.config.tokens)

    def forward(self, lq: Tensor) -> Tensor:
        tokens, _ = self.select_tokens(self.encode(lq))
        prompt: Tensor = self.projection(tokens)
        return prompt
