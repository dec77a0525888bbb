"""How both restoration stages, blind and reference-conditioned, learn: from squares of faces, and from whole ones."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.face_analyzer import IdentityEncoder
from models.honestface import HonestFace, SeenReference
from training.adversary import Adversary, restoration_cases
from training.identity_loss import identity_loss
from training.restoration import RestorationConfig, mean_losses, restoration_losses
from training.squares import DecodedSquare, cut, decode_square, in_pixels, random_corner
from training.stage import Batch, Stage


@dataclass(frozen=True, eq=False)
class Given:
    """What whole faces are restored from and to: latents, the truth, the prompt, references bent, input heatmaps."""

    latent: Tensor
    target: Tensor
    truth: Tensor
    prompt: Tensor
    seen: SeenReference | None = None
    heatmaps: Tensor | None = None


class RestorationStage(Stage):
    """`restoration_losses` of random squares of each face, what discriminators add, and Eq. 8 of whole faces.

    That is L1 and what repeats from patch to patch on latents; L1, MSE or PSNR, seams and spectrum on the decoded
    square; a perceptual distance of any kind and texture on part of it, every `feature_every` steps; and every
    `face_every` steps, where `identity_weight` is set, whole faces instead for the `encoders`.
    """

    network: HonestFace
    config: RestorationConfig
    features: nn.Module
    adversary: Adversary | None = None
    encoders: Sequence[IdentityEncoder] = ()
    """The recognisers f_i of Eq. 8."""

    @abstractmethod
    def given(self, truth: Tensor, lq: Tensor, batch: Batch) -> Given:
        """What a batch of `truth` and `lq` `[B, 3, 512, 512]` is restored from."""

    def further_losses(self, decoded: DecodedSquare, given: Given, step: int) -> Mapping[str, Tensor]:
        """What a stage adds to the losses of a square."""
        return {}

    def losses(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        config = self.config
        whole = config.identity_weight > 0 and step % config.face_every == config.face_every - 1
        if whole and config.face_every > 1:
            batch = {key: value[: config.face_batch] for key, value in batch.items()}
        truth, lq = (batch[key].to(memory_format=torch.channels_last) for key in ("truth", "lq"))
        given = self.given(truth, lq, batch)
        squares = 1 if whole else config.squares
        return mean_losses([self._square(given, whole, step) for _ in range(squares)])

    def latents(self, truth: Tensor, lq: Tensor) -> tuple[Tensor, Tensor]:
        """Those of the input and of the truth."""
        with torch.no_grad():
            latent, target = self.network.vae.encode(torch.cat([lq, truth])).chunk(2)
        return latent, target

    def _square(self, given: Given, whole: bool, step: int) -> dict[str, Tensor]:
        """Losses of the whole faces or of a random square of each."""
        network, config = self.network, self.config
        side = given.truth.shape[-1] if whole else config.crop_side
        cells = side // network.vae.patch
        corner = random_corner(given.latent, cells)
        latent, target = cut(given.latent, corner, cells), cut(given.target, corner, cells)
        seen = given.seen and replace(given.seen, latent=cut(given.seen.latent, corner, cells))
        restored = network.predict(latent, given.prompt, network.steer(latent, seen), corner)
        place = in_pixels(network, corner)
        truth = cut(given.truth, place, side)
        if whole:
            decoded = DecodedSquare(network.vae.decode(restored), truth)
            losses = {
                "latent": config.latent_weight * F.l1_loss(restored, target),
                "identity": self._identity_loss(decoded.restored, truth),
            }
        else:
            decoded = decode_square(network, restored, truth, config.decoded_side, place)
            losses = {}
        if not whole or config.face_every == 1:
            losses |= restoration_losses(restored, target, decoded, self.features, config, step)
        if self.adversary is not None:
            cases = restoration_cases((restored, target), given.prompt, corner, decoded, config)
            losses |= self.adversary.judge(cases, step)
        return losses | dict(self.further_losses(decoded, given, step))

    def _identity_loss(self, restored: Tensor, truth: Tensor) -> Tensor:
        """Eq. 8 of whole faces; its weight makes up for the steps between."""
        return (
            self.config.face_every * self.config.identity_weight * identity_loss(restored.float(), truth, self.encoders)
        )
