"""HonestFace: the generator G(x_L, R) (Fig. 1), from a low-quality face and references to a restored face."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from models.autoencoder import KLAutoencoder, KLAutoencoderConfig
from models.face_window import within_face
from models.feature_fusion import FeatureFusion
from models.identity_embedder import IdentityEmbedder, IdentityEmbedderConfig, IdentityPrompt
from models.one_step_diffusion import OneStepDiffusion, OneStepDiffusionConfig, blend_latents
from models.pixel_unshuffle_autoencoder import PixelUnshuffleAutoencoder, PixelUnshuffleAutoencoderConfig
from models.position_map import PositionMap
from models.reference_adapter import ReferenceAdapter, ReferenceAdapterConfig
from models.reference_warp import ReferenceWarpConfig, warp_reference
from models.references import References
from models.tiny_unet import TinyUNet, TinyUNetConfig
from models.visual_representation_embedder import VisualRepresentationEmbedder, VREConfig


@dataclass(frozen=True)
class HonestFaceConfig:
    """The shapes of all parts. `unet` is the tiny one's, or keyword arguments of diffusers' UNet2DConditionModel.

    `position_channels` learned maps `[P, latent_size, latent_size]` join the latent at the UNet's entrance: an aligned
    face has its parts at fixed places. Without `identity_embedder` (OSDFace alone) references are refused.
    """

    vae: PixelUnshuffleAutoencoderConfig | KLAutoencoderConfig
    unet: Annotated[TinyUNetConfig | dict[str, Any], Field(union_mode="left_to_right")]
    vre: VREConfig
    diffusion: OneStepDiffusionConfig = field(default_factory=OneStepDiffusionConfig)
    identity_embedder: IdentityEmbedderConfig | None = None
    reference_adapter: ReferenceAdapterConfig | None = None
    reference_warp: ReferenceWarpConfig = field(default_factory=ReferenceWarpConfig)
    position_channels: int = 0
    latent_size: int = 64


@dataclass(frozen=True, eq=False)
class Generated:
    """A batch of results: `restored` `[B, 3, 512, 512]` in [-1, 1]; the `prompt` p `[B, 77, k]`, `latent` z_L and
    `restored_latent` z_H `[B, C, h, w]`, before `strength` blends the two."""

    prompt: Tensor
    latent: Tensor
    restored_latent: Tensor
    restored: Tensor


@dataclass(frozen=True, eq=False)
class SeenReference:
    """The latent `[B, C, h, w]` of each image's optimal reference, bent onto the image's face; the cosine `[B]` between
    their identities; `present` `[B]`, False where an image has no reference and the rest means nothing."""

    latent: Tensor
    agreement: Tensor
    present: Tensor


class HonestFace(nn.Module):
    """The one-step generator; no references is a first-class input and gives the blind baseline, bit for bit."""

    def __init__(self, config: HonestFaceConfig) -> None:
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        super().__init__()
        self.config = config
        self.vae: PixelUnshuffleAutoencoder | KLAutoencoder = (
            PixelUnshuffleAutoencoder(config.vae)
            if isinstance(config.vae, PixelUnshuffleAutoencoderConfig)
            else KLAutoencoder(config.vae)
        )
        self.unet: Any = (
            TinyUNet(config.unet) if isinstance(config.unet, TinyUNetConfig) else UNet2DConditionModel(**config.unet)
        )
        self.vre = VisualRepresentationEmbedder(config.vre)
        self.identity_embedder = IdentityEmbedder(config.identity_embedder) if config.identity_embedder else None
        self.reference_adapter = ReferenceAdapter(config.reference_adapter) if config.reference_adapter else None
        self.position_map = (
            PositionMap(config.position_channels, config.latent_size) if config.position_channels else None
        )
        self.fusion = FeatureFusion()
        self.diffusion = OneStepDiffusion(config.diffusion)

    @property
    def takes_references(self) -> bool:
        """Whether it has an identity embedder; OSDFace's weights alone have none."""
        return self.identity_embedder is not None

    def forward(
        self,
        lq: Tensor,
        references: References | None = None,
        landmarks: Tensor | None = None,
        identity: Tensor | None = None,
        strength: float | Tensor = 1.0,
        seeds: Sequence[int | None] | None = None,
    ) -> Generated:
        """Restore aligned faces `[B, 3, 512, 512]`, RGB in [-1, 1].

        `landmarks` `[B, 68, 2]` (px) and `identity` `[B, d]` (unit) are the input's own, needed with references only.
        `strength` (a number or `[B]`) in 0..1 moves from the input's latent to the restored one. `seeds` draw from the
        VAE's posterior instead of taking its mode.

        Raises:
            ValueError: references without the input's landmarks and identity, or a model without reference weights.
        """
        latent = self.vae.encode(lq, seeds)
        person, steering = None, None
        if references is not None:
            if self.identity_embedder is None:
                raise ValueError("this model was built without an identity embedder: it takes no references")
            if landmarks is None or identity is None:
                raise ValueError("references need the landmarks and the identity of the input")
            person = self.identity_embedder(landmarks, references)
            steering = self.steer(latent, self.see(latent, person, references, landmarks, identity))
        prompt = self.fusion(self.vre(lq), person)
        restored_latent = self.predict(latent, prompt, steering)
        amount = torch.as_tensor(strength, dtype=torch.float32, device=lq.device).expand(len(lq))
        restored = self.vae.decode(blend_latents(latent, restored_latent, amount))
        return Generated(prompt, latent, restored_latent, restored)

    def predict(
        self,
        latent: Tensor,
        prompt: Tensor,
        steering: tuple[list[Tensor], Tensor] | None = None,
        corner: tuple[int, int] = (0, 0),
    ) -> Tensor:
        """The restored latent z_H (Eq. 3) of latents z_L `[B, C, h, w]` under a prompt `[B, 77, k]`.

        Training also restores parts of a face: `corner` (row, column) is where the latents lie in the aligned frame.
        """
        sample = latent if self.position_map is None else self.position_map(latent, corner)
        skips, middle = steering if steering is not None else (None, None)
        # The UNet and the adapter may be of a lower precision than the rest (`models.precision`).
        prediction = self.unet(
            sample.to(self.unet.dtype),
            # On its device already: diffusers would copy a number there, which waits and cannot be part of a graph.
            torch.full((), self.diffusion.config.timestep, device=sample.device),
            prompt.to(self.unet.dtype),
            down_block_additional_residuals=skips,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0]
        return self.diffusion.restored_latent(latent, prediction)

    def see(
        self, latent: Tensor, person: IdentityPrompt, references: References, landmarks: Tensor, identity: Tensor
    ) -> SeenReference | None:
        """The optimal reference of each image, bent onto its landmarks, and around the face the image's own latent;
        None without a reference adapter."""
        if self.reference_adapter is None:
            return None
        rows = person.optimal.clamp(min=0)
        bent = warp_reference(
            references.images[rows], references.landmarks[rows], landmarks, self.config.reference_warp
        )
        agreement = (identity * references.identity[rows]).sum(1)
        return SeenReference(within_face(latent, self.vae.encode(bent)), agreement, person.present)

    def steer(self, latent: Tensor, seen: SeenReference | None) -> tuple[list[Tensor], Tensor] | None:
        """What the reference adds to the UNet's skips and middle block, for latents of the same place as `seen`'s."""
        if self.reference_adapter is None or seen is None:
            return None
        steering: tuple[list[Tensor], Tensor] = self.reference_adapter(
            latent, seen.latent, seen.agreement, seen.present
        )
        return steering
