"""What `restoration_losses` counts, on the baseline of a toy run."""

import pytest
import torch
from torch.utils.data import default_collate

from training.feature_distance import VGG16FeatureDistance
from training.restoration import restoration_losses
from training.seam_loss import seam_loss
from training.spectrum_loss import spectrum_loss
from training.squares import DecodedSquare, decode_square
from training.stages.baseline import BaselineStage
from training.texture_loss import texture_loss


def test_what_is_restored_perfectly_costs_nothing_but_the_autoencoder(blind: BaselineStage) -> None:
    batch = default_collate([blind.dataset[0]])
    with torch.no_grad():
        target = blind.network.vae.encode(batch["truth"])
        decoded = blind.network.vae.decode(target)
        square = decode_square(blind.network, target, decoded, 512)
        losses = restoration_losses(target, target, square, blind.features, blind.config, 0)
    assert float(losses["latent"]) == 0
    assert float(losses["pixels"]) < 1e-5


def test_seams_and_texture_cost_what_their_weights_say(blind: BaselineStage) -> None:
    latent = torch.randn(1, 24, 128, 128)
    with torch.no_grad():
        square = decode_square(blind.network, latent, torch.zeros(1, 3, 512, 512), 128)
        config = blind.config.model_copy(update={"seam_weight": 0.5, "spectrum_weight": 0.05})
        losses = restoration_losses(latent, latent, square, blind.features, config, 1)
    assert float(losses["seams"]) == pytest.approx(0.5 * float(seam_loss(square.restored))) != 0
    assert float(losses["spectrum"]) == pytest.approx(0.05 * float(spectrum_loss(square.restored, square.truth))) != 0


def test_twice_the_weight_costs_twice_as_much(blind: BaselineStage) -> None:
    kinds = ("latent", "pixel", "grid", "seam", "spectrum", "texture", "feature")
    restored, target = torch.randn(2, 1, 24, 64, 64)
    square = DecodedSquare(*torch.rand(2, 1, 3, 64, 64))

    def losses(weight: float) -> dict[str, float]:
        config = blind.config.model_copy(update={f"{kind}_weight": weight for kind in kinds})
        torch.manual_seed(0)
        found = restoration_losses(restored, target, square, blind.features, config, 0)
        return {name: float(loss) for name, loss in found.items()}

    once = losses(0.5)
    assert len(once) == len(kinds) and all(once.values())
    assert losses(1.0) == pytest.approx({name: 2 * loss for name, loss in once.items()})


@pytest.mark.parametrize("texture", [0.0, 0.8])
def test_the_perceptual_distance_makes_up_for_the_steps_between(blind: BaselineStage, texture: float) -> None:
    settings = {"feature_weight": 0.7, "feature_every": 3, "texture_weight": texture}
    config, latent = blind.config.model_copy(update=settings), torch.zeros(1, 24, 8, 8)
    square = DecodedSquare(*torch.rand(2, 1, 3, 32, 32))
    losses = restoration_losses(latent, latent, square, blind.features, config, 6)
    distance = float(blind.features(square.restored, square.truth))
    assert float(losses["features"]) == pytest.approx(3 * 0.7 * distance) != 0


def test_texture_counts_without_the_perceptual_distance(blind: BaselineStage) -> None:
    assert isinstance(blind.features, VGG16FeatureDistance)
    latent = torch.randn(1, 24, 128, 128)
    alone = blind.config.model_copy(update={"feature_weight": 0.0, "texture_weight": 0.8})
    neither = blind.config.model_copy(update={"feature_weight": 0.0, "feature_side": 999})
    with torch.no_grad():
        square = decode_square(blind.network, latent, torch.zeros(1, 3, 512, 512), 32)
        losses = restoration_losses(latent, latent, square, blind.features, alone, 0)
        found, wanted = (blind.features.activations(part) for part in (square.restored, square.truth))
        off = restoration_losses(latent, latent, square, blind.features, neither, 0)
    assert float(losses["texture"]) == pytest.approx(2 * 0.8 * float(texture_loss(found, wanted, 32))) != 0
    assert float(losses["features"]) == 0
    assert set(off) == {"latent", "pixels"}
