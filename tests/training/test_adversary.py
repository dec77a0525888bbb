"""A generator's two opponents: who gets gradients when, and that they learn to tell restored from real."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.errors import HonestFaceError
from tests.small_generator import small_generator
from training.adversary import Adversary, RestorationAdversarialConfig, restoration_adversary, restoration_cases
from training.feature_distance import VGG16FeatureDistance
from training.perceptual_distance import MeanSquaredError
from training.squares import DecodedSquare

Opponents = Callable[..., Adversary]


def config(**settings: object) -> RestorationAdversarialConfig:
    values = {"data": Path(), "run": Path(), "steps": 1, "batch": 1, "latent_gan_rank": 4, "feature_gan_side": 32}
    return RestorationAdversarialConfig.model_validate(values | settings)


@pytest.fixture(scope="module")
def opponents(vgg16_file: Path) -> Opponents:
    def build(**settings: object) -> Adversary:
        adversary = restoration_adversary(config(**settings), small_generator(), VGG16FeatureDistance(vgg16_file))
        assert adversary is not None
        return adversary

    return build


def judged(adversary: Adversary, step: int = 0, seed: int = 0) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Losses of made-up results: too smooth in pixels, of another mean in latents."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(4, 16, 8, 8, generator=generator)
    square = torch.randn(4, 3, 32, 32, generator=generator)
    restored, decoded = (0.1 * target + 1).requires_grad_(), (0.1 * square).requires_grad_()
    prompt = torch.randn(4, 77, 24, generator=generator)
    cases = restoration_cases((restored, target), prompt, (0, 0), DecodedSquare(decoded, square), config(**BOTH))
    return adversary.judge(cases, step), [restored, decoded]


BOTH = {"latent_gan_weight": 0.5, "feature_gan_weight": 0.25}


def test_no_weight_no_adversary(opponents: Opponents) -> None:
    assert restoration_adversary(config(), small_generator(), MeanSquaredError()) is None
    only = opponents(feature_gan_weight=0.1)
    assert [name for name, _ in only.named_children()] == ["feature"]


def test_a_square_smaller_than_the_part_of_a_discriminator_that_is_off() -> None:
    latents, square = torch.zeros(2, 1, 16, 8, 8), DecodedSquare(*torch.zeros(2, 1, 3, 32, 32))
    settings = config(latent_gan_weight=0.1, feature_gan_side=128)
    cases = restoration_cases((latents[0], latents[1]), torch.zeros(1, 77, 24), (0, 0), square, settings)
    assert set(cases) == {"latent"}


def test_only_vgg16_can_be_looked_through() -> None:
    with pytest.raises(HonestFaceError, match="vgg16-features"):
        restoration_adversary(config(feature_gan_weight=0.1), small_generator(), MeanSquaredError())


def test_the_generator_is_led_and_the_adversary_is_not_dragged_along(opponents: Opponents) -> None:
    adversary = opponents(**BOTH)
    losses, results = judged(adversary)
    assert set(losses) == {"latent_gan", "feature_gan"}
    torch.stack(list(losses.values())).sum().backward()
    assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in results)
    results[0].grad = results[1].grad = None
    own = adversary.losses(0)
    assert set(own) == {"latent_discriminator", "feature_discriminator"}
    torch.stack(list(own.values())).sum().backward()
    assert results[0].grad is None and results[1].grad is None


def test_the_weight_scales_the_loss(opponents: Opponents) -> None:
    found = []
    for weight in (0.5, 1.0):
        torch.manual_seed(0)
        adversary = opponents(feature_gan_weight=weight)
        found.append(judged(adversary)[0]["feature_gan"])
    assert torch.allclose(2 * found[0], found[1])


def test_the_generator_may_join_later(opponents: Opponents) -> None:
    adversary = opponents(**BOTH, gan_from=3)
    assert judged(adversary, step=2)[0] == {}
    assert set(adversary.losses(2)) == {"latent_discriminator", "feature_discriminator"}
    assert set(judged(adversary, step=3)[0]) == {"latent_gan", "feature_gan"}


def test_r1_is_taken_every_few_steps_and_can_be_minimised(opponents: Opponents) -> None:
    adversary = opponents(**BOTH, gan_r1=2.0, gan_r1_every=4)
    judged(adversary, step=3)
    assert not any(name.endswith("r1") for name in adversary.losses(3))
    judged(adversary, step=4)
    losses = adversary.losses(4)
    assert losses["latent_r1"] > 0 and losses["feature_r1"] > 0
    (losses["latent_r1"] + losses["feature_r1"]).backward()
    assert adversary.get_submodule("latent.head.0").weight.grad.isfinite().all()
    assert adversary.get_parameter("feature.heads.0.look.0.parametrizations.weight.original").grad.abs().sum() > 0


@pytest.mark.parametrize(("name", "kind"), [("latent", "non-saturating"), ("feature", "hinge")])
def test_it_learns_to_tell_restored_from_real(opponents: Opponents, name: str, kind: str) -> None:
    torch.manual_seed(0)
    weights = {f"{name}_gan_weight": 1.0, "gan_loss": kind, "latent_gan_rank": 0}
    adversary = opponents(**weights)
    optimizer = torch.optim.AdamW([p for p in adversary.parameters() if p.requires_grad], lr=5e-3)
    history = []
    for step in range(30):
        judged(adversary, step, seed=step)
        (loss,) = adversary.losses(step).values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    assert sum(history[-5:]) / 5 < 0.8 * history[0]
