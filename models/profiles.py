"""The two profiles: one set of classes, two configurations."""

from typing import Any

from models.autoencoder import KLAutoencoderConfig
from models.face_identity_encoder import FaceIdentityEncoderConfig
from models.facial_feature_extractor import FacialFeatureExtractorConfig
from models.honestface import HonestFaceConfig
from models.identity_embedder import IdentityEmbedderConfig
from models.one_step_diffusion import OneStepDiffusionConfig
from models.pixel_unshuffle_autoencoder import PixelUnshuffleAutoencoderConfig
from models.reference_adapter import ReferenceAdapterConfig
from models.stable_diffusion_21 import UNET
from models.visual_representation_embedder import VREConfig

TINY_UNET: dict[str, Any] = {
    "sample_size": 128,
    "in_channels": 24 + 16,
    "out_channels": 24,
    "down_block_types": ("DownBlock2D", "DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D", "UpBlock2D"),
    "block_out_channels": (32, 64, 128, 160),
    "layers_per_block": 1,
    "cross_attention_dim": 256,
    "attention_head_dim": 4,
    "norm_num_groups": 16,
}

#: Small networks trained by this project, for a CPU.
TINY = HonestFaceConfig(
    vae=PixelUnshuffleAutoencoderConfig(),
    unet=TINY_UNET,
    vre=VREConfig.tiny(),
    diffusion=OneStepDiffusionConfig(residual=True),
    identity_embedder=IdentityEmbedderConfig(
        extractor=FacialFeatureExtractorConfig(prompt_width=256, patch_size=64, supersampling=2, cells=2, width=128),
        encoder=FaceIdentityEncoderConfig(prompt_width=256, identity_width=128, width=256),
    ),
    reference_adapter=ReferenceAdapterConfig(),
    position_channels=16,
    latent_size=128,
)

#: The paper: Stable Diffusion 2.1-base, OSDFace's VRE, ArcFace's 512-d identities.
SD21 = HonestFaceConfig(
    vae=KLAutoencoderConfig(),
    unet=UNET,
    vre=VREConfig.sd21(),
    identity_embedder=IdentityEmbedderConfig(),
)

PROFILES = {"tiny": TINY, "sd21": SD21}
