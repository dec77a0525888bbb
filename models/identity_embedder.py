"""Identity embedder, IDE (paper 3.2, Fig. 1): what the references say about the person, as tokens of the prompt."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from models.face_identity_encoder import FaceIdentityEncoder, FaceIdentityEncoderConfig
from models.facial_feature_extractor import FacialFeatureExtractor, FacialFeatureExtractorConfig, optimal_reference
from models.references import References


@dataclass(frozen=True)
class IdentityEmbedderConfig:
    """The two parallel components; both make tokens of one prompt width. Either may be left out (Table 3c)."""

    extractor: FacialFeatureExtractorConfig | None = field(default_factory=FacialFeatureExtractorConfig)
    encoder: FaceIdentityEncoderConfig | None = field(default_factory=FaceIdentityEncoderConfig)

    def __post_init__(self) -> None:
        if self.extractor is None and self.encoder is None:
            raise ValueError("an identity embedder without both of its components embeds nothing")
        if self.extractor is None or self.encoder is None:
            return
        if self.extractor.prompt_width != self.encoder.prompt_width:
            raise ValueError(
                f"one prompt width, not two: {self.extractor.prompt_width} and {self.encoder.prompt_width}"
            )


@dataclass(frozen=True, eq=False)
class IdentityPrompt:
    """`tokens [B, n1 + n2, k]`, all zero for an image without references; `present [B]` bool, whether it has any;
    `optimal [B]` int64, the row of its optimal reference in the packed references or -1."""

    tokens: Tensor
    present: Tensor
    optimal: Tensor


class IdentityEmbedder(nn.Module):
    """IDE: facial feature extractor and face identity encoder side by side, n1 + n2 = 4 + 7 tokens."""

    def __init__(self, config: IdentityEmbedderConfig) -> None:
        super().__init__()
        self.config = config
        self.facial_feature_extractor = FacialFeatureExtractor(config.extractor) if config.extractor else None
        self.face_identity_encoder = FaceIdentityEncoder(config.encoder) if config.encoder else None

    @property
    def tokens(self) -> int:
        """n1 + n2."""
        extractor, encoder = self.facial_feature_extractor, self.config.encoder
        return (extractor.tokens if extractor else 0) + (encoder.tokens if encoder else 0)

    def forward(self, landmarks: Tensor, references: References) -> IdentityPrompt:
        """Tokens of images with landmarks `[B, 68, 2]` in pixels from their references; no device sync."""
        optimal = optimal_reference(landmarks, references)
        present = optimal >= 0
        # An image without references borrows row 0, so that shapes need not be read back; its tokens are dropped below.
        rows = optimal.clamp(min=0)
        parts = []
        if self.facial_feature_extractor is not None:
            parts.append(self.facial_feature_extractor(references.images[rows], references.landmarks[rows]))
        if self.face_identity_encoder is not None:
            identity = self.face_identity_encoder(references.identity, references.owner, references.batch)
            parts.append(identity.to(parts[0].dtype) if parts else identity)
        tokens = torch.cat(parts, 1)
        return IdentityPrompt(torch.where(present[:, None, None], tokens, 0.0), present, optimal)
