"""Face identity encoder, FIE (paper 3.2, Fig. 3): one identity from any number of references."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.references import segment_softmax, segment_sum


@dataclass(frozen=True)
class FaceIdentityEncoderConfig:
    """`identity_width` is that of the identity network's embeddings, `tokens` is the paper's n2; `width` of the layers
    inside is unstated there."""

    prompt_width: int = 1024
    identity_width: int = 512
    width: int = 512
    tokens: int = 7


class FaceIdentityEncoder(nn.Module):
    """p_I: n2 = 7 tokens by attention pooling over the identity embeddings of an image's references.

    Each of n2 learned queries weighs the references against each other. What is pooled are the embeddings themselves,
    not a projection of them: a pooled identity stays in the space of the identity network, as the paper asks. Only
    after pooling does a small perceptron, told by the query which token it makes, carry it to the prompt; so the
    tokens of a single reference differ too. The order of the references does not matter.
    """

    def __init__(self, config: FaceIdentityEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.queries = nn.Parameter(torch.randn(config.tokens, config.width))
        self.key = nn.Linear(config.identity_width, config.width)
        self.hidden = nn.Linear(config.identity_width, config.width)
        self.projection = nn.Linear(config.width, config.prompt_width)

    def forward(self, identity: Tensor, owner: Tensor, batch: int) -> Tensor:
        """Tokens `[B, 7, k]` from packed embeddings `[R, d]` and the image `owner [R]` of each (see `References`).

        The tokens of an image without references mean nothing.
        """
        # Unit vectors have entries of size 1/sqrt(d); the layers want entries of size one.
        embeddings = F.normalize(identity, dim=-1) * self.config.identity_width**0.5
        scores = self.key(embeddings) @ self.queries.T / self.config.width**0.5
        attention = segment_softmax(scores, owner, batch)
        pooled = segment_sum(attention[..., None] * embeddings[:, None], owner, batch)
        tokens: Tensor = self.projection(F.gelu(self.hidden(pooled) + self.queries))
        return tokens
