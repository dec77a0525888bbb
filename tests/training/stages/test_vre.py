import math
from pathlib import Path

import pytest
import torch

from models.visual_representation_embedder import VisualRepresentationEmbedder, VREConfig
from tests.small_generator import SMALL
from tests.training.one_step import one_step
from training.components import load_component
from training.restoration_data import held_out_samples
from training.stages import vre
from training.stages.vre import VQVAE, VREStage, VREStageConfig, association_loss

TEMPERATURE = torch.tensor(math.log(1 / 0.07))


@pytest.fixture(scope="module")
def stage(face_folder: Path) -> VREStage:
    torch.manual_seed(0)
    config = VREStageConfig(data=face_folder, run=face_folder, steps=2, batch=1, association_from=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vre, "held_out_samples", lambda dataset, count: held_out_samples(dataset, 2))
        return VREStage(config)


def test_one_step_before_and_after_the_association_begins(stage: VREStage) -> None:
    names = {"hq_l1", "hq_codes", "lq_l1", "lq_codes"}
    stage.network.temperature.requires_grad_(False)  # not used before
    # codes are learned in closed form, without a gradient
    for network in (stage.network.hq, stage.network.lq):
        network.embedder.quantize.requires_grad_(False)
    assert set(one_step(stage, (0, 1), step=0)) == names
    stage.network.temperature.requires_grad_(True)
    assert set(one_step(stage, (0, 1), step=1)) == names | {"association"}


def test_figures_pictures_and_export(stage: VREStage, tmp_path: Path) -> None:
    stage.network.eval()
    with torch.no_grad():
        figures = stage.validate()
        assert stage.pictures().shape == (3, 4 * 128, 2 * 128)
    assert set(figures) == {"psnr_lq", "psnr_hq", "codes_used", "tokens"}
    assert 1 <= figures["tokens"] <= 77
    stage.export(tmp_path)
    load_component(VisualRepresentationEmbedder(VREConfig.tiny()), tmp_path / "vre.safetensors")


def test_the_association_of_tokens_that_agree_is_nothing() -> None:
    tokens = torch.eye(8)[None].expand(2, -1, -1)
    assert float(association_loss(tokens, 5 * tokens, TEMPERATURE)) < 1e-4
    shuffled = tokens.roll(1, dims=1)
    assert float(association_loss(tokens, shuffled, TEMPERATURE)) == pytest.approx(1 / 0.07, rel=0.01)


def test_tokens_that_are_all_alike_can_only_be_guessed() -> None:
    alike = torch.ones(1, 16, 4)
    assert float(association_loss(alike, alike, TEMPERATURE)) == pytest.approx(math.log(16), rel=1e-5)


def test_the_association_is_symmetric() -> None:
    a, b = torch.randn(2, 16, 4), torch.randn(2, 16, 4)
    assert torch.allclose(association_loss(a, b, TEMPERATURE), association_loss(b, a, TEMPERATURE))


@pytest.fixture
def dictionary() -> VQVAE:
    torch.manual_seed(0)
    return VQVAE(SMALL.vre)


def test_images_in_and_out_of_a_dictionary(dictionary: VQVAE) -> None:
    restored, embeddings, codes, indices = dictionary(torch.rand(2, 3, 32, 32))
    assert restored.shape == (2, 3, 32, 32)
    assert embeddings.shape == codes.shape == (2, 256, 8)
    assert torch.equal(codes, dictionary.embedder.codebook[indices])


def test_gradients_pass_straight_through_the_codes(dictionary: VQVAE) -> None:
    restored, *_ = dictionary(torch.rand(1, 3, 32, 32))
    restored.sum().backward()
    assert all(parameter.grad is not None for parameter in dictionary.embedder.encoder.parameters())
    assert dictionary.embedder.codebook.grad is None


def test_codes_move_onto_the_embeddings_they_stand_for(dictionary: VQVAE) -> None:
    """Four clusters: after some steps the codes in use are their means and no embedding is far from its code."""
    centres = 3 * torch.eye(8)[:4]
    generator = torch.Generator().manual_seed(0)

    def error() -> float:
        embeddings = centres.repeat(2, 16, 1) + 0.05 * torch.randn(2, 64, 8, generator=generator)
        codes, indices = dictionary.embedder.quantise(embeddings)
        dictionary.learn_codes(embeddings, indices)
        return float((codes.detach() - embeddings).square().sum(-1).mean())

    first = error()
    last = [error() for _ in range(30)][-1]
    assert first > 5 and last < 0.05
    assert dictionary.embedder.codebook.isfinite().all()
