"""Feature fusion (paper 3.2): visual and identity tokens become one prompt."""

import torch
from torch import Tensor, nn

from models.identity_embedder import IdentityPrompt


class FeatureFusion(nn.Module):
    """The prompt p of Eq. 3: as many tokens as the VRE gives, the last of them replaced by those of the references.

    The paper leaves the mechanism open (n <= n1 + n2 + n3). Our reading: VRE tokens are sorted by their distance to the
    codebook, so of 77 the 66 nearest stay and 11 identity tokens follow. Without references all 77 stay, bit for bit,
    whatever its batch-mates have. There is nothing to learn here.
    """

    def forward(self, visual: Tensor, identity: IdentityPrompt | None) -> Tensor:
        """The prompt `[B, n3, k]` from VRE tokens `[B, n3, k]`, nearest first, and the identity tokens."""
        if identity is None:
            return visual
        kept = visual.shape[1] - identity.tokens.shape[1]
        if kept < 0:
            raise ValueError(f"{identity.tokens.shape[1]} identity tokens do not fit into {visual.shape[1]}")
        fused = torch.cat([visual[:, :kept], identity.tokens.to(visual.dtype)], 1)
        return torch.where(identity.present[:, None, None], fused, visual)
