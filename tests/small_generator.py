"""A generator of the real classes with few channels, for pictures of 64 px: all that TINY has, in milliseconds."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from models.autoencoder import KLAutoencoderConfig
from models.face_identity_encoder import FaceIdentityEncoderConfig
from models.facial_feature_extractor import FacialFeatureExtractorConfig
from models.honestface import HonestFace, HonestFaceConfig
from models.identity_embedder import IdentityEmbedderConfig
from models.one_step_diffusion import OneStepDiffusionConfig
from models.pixel_unshuffle_autoencoder import PixelUnshuffleAutoencoderConfig
from models.reference_adapter import ReferenceAdapterConfig
from models.references import Reference
from models.tiny_unet import TinyUNetConfig
from models.visual_representation_embedder import VREConfig
from tests.models.drawn_face import drawn_landmarks

SIDE = 64

SMALL = HonestFaceConfig(
    vae=PixelUnshuffleAutoencoderConfig(latent_channels=16, patch=8),
    unet=TinyUNetConfig(
        in_channels=16 + 4, out_channels=16, widths=(16, 24, 32), blocks=(1, 2, 2), prompt_width=24, heads=2
    ),
    vre=VREConfig(
        image_size=32,
        channels=8,
        multipliers=(1, 2),
        residual_blocks=1,
        attention_resolutions=(),
        embedding_width=8,
        codebook_size=256,
        prompt_width=24,
        projection_width=16,
        groups=8,
    ),
    diffusion=OneStepDiffusionConfig(residual=True),
    identity_embedder=IdentityEmbedderConfig(
        extractor=FacialFeatureExtractorConfig(prompt_width=24, patch_size=8, cells=2, width=16),
        encoder=FaceIdentityEncoderConfig(prompt_width=24, identity_width=8, width=16),
    ),
    reference_adapter=ReferenceAdapterConfig(latent_channels=16, widths=(16, 24, 32)),
    position_channels=4,
    latent_size=8,
)

KL = KLAutoencoderConfig(
    {
        "sample_size": SIDE,
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (8, 8, 8, 8),
        "norm_num_groups": 4,
        "layers_per_block": 1,
        "latent_channels": 4,
        "scaling_factor": 0.2,
    }
)

#: As the paper's profile is put together: no adapter, no position map, a KL autoencoder and Eq. 3 as it stands.
SMALL_SD21 = replace(
    SMALL,
    vae=KL,
    unet={
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        "block_out_channels": (16, 24, 32),
        "layers_per_block": 1,
        "cross_attention_dim": 24,
        "attention_head_dim": 2,
        "norm_num_groups": 8,
    },
    diffusion=OneStepDiffusionConfig(),
    reference_adapter=None,
    position_channels=0,
)


def small_generator(config: HonestFaceConfig = SMALL) -> HonestFace:
    """Seeded; weights that start at zero get values, else half of the network would not be seen to work."""
    torch.manual_seed(0)
    network = HonestFace(config).eval().requires_grad_(False)
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return network


def faces(count: int, seed: int = 0) -> Tensor:
    """Noise in place of faces `[count, 3, 64, 64]`."""
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def landmarks(count: int) -> Tensor:
    """Landmarks `[count, 68, 2]` of faces of 64 px, each moved a little."""
    return torch.stack([drawn_landmarks(seed) * (SIDE / 512) for seed in range(count)])


def identities(count: int, seed: int = 5) -> Tensor:
    """Unit vectors `[count, 8]`."""
    return nn.functional.normalize(torch.randn(count, 8, generator=torch.Generator().manual_seed(seed)), dim=1)


def references(count: int, seed: int = 9) -> Sequence[Reference]:
    """Different references of one person."""
    images, who = faces(count, seed), identities(count, seed)
    return [Reference(images[i], drawn_landmarks(seed + i) * (SIDE / 512), who[i]) for i in range(count)]
