"""The two profiles: one set of classes, two configurations."""

from models.autoencoder import KLAutoencoderConfig
from models.choices import ProfileName
from models.face_identity_encoder import FaceIdentityEncoderConfig
from models.facial_feature_extractor import FacialFeatureExtractorConfig
from models.honestface import HonestFaceConfig
from models.identity_embedder import IdentityEmbedderConfig
from models.one_step_diffusion import OneStepDiffusionConfig
from models.pixel_unshuffle_autoencoder import PixelUnshuffleAutoencoderConfig
from models.reference_adapter import ReferenceAdapterConfig
from models.stable_diffusion_21 import UNET
from models.tiny_unet import TinyUNetConfig
from models.visual_representation_embedder import VREConfig

#: Small networks trained by this project, for a CPU.
TINY = HonestFaceConfig(
    vae=PixelUnshuffleAutoencoderConfig(),
    unet=TinyUNetConfig(
        in_channels=24 + 16,
        out_channels=24,
        widths=(32, 64, 128, 192),
        blocks=(1, 2, 5, 4),
        prompt_width=256,
    ),
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

PROFILES: dict[ProfileName, HonestFaceConfig] = {"tiny": TINY, "sd21": SD21}
