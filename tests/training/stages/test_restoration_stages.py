"""The blind baseline, and the reference-conditioned model on top of it: built, stepped once, exported and handed on."""

import copy
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn
from torch.utils.data import default_collate

from models.errors import WeightsError
from models.honestface import HonestFace
from models.profiles import TINY
from models.references import References
from tests.training.one_step import one_step
from tests.training.stages.workshop import Workshop
from training import restoration_stage
from training import run as run_module
from training.components import load_component, read_shape
from training.faces import Faces, load_faces
from training.masked_face_alignment import attention_mask
from training.restoration_data import held_out_samples
from training.restoration_stage import Given
from training.squares import DecodedSquare, cut, decode_square
from training.stage import Stage, TrainingConfig
from training.stages import honestface
from training.stages.baseline import BaselineConfig, BaselineStage
from training.stages.honestface import HonestFaceStage


def test_the_baseline_starts_by_restoring_nothing(workshop: Workshop) -> None:
    stage = BaselineStage(workshop.baseline())
    with torch.inference_mode():
        found = stage.network(stage.held_out["lq"][:1])
    assert torch.equal(found.restored_latent, found.latent)


def trained_parts(network: nn.Module) -> set[str]:
    return {name.split(".")[0] for name, p in network.named_parameters() if p.requires_grad}


def test_the_baseline_keeps_latents_and_dictionary_as_they_are(blind: BaselineStage) -> None:
    assert trained_parts(blind.network) == {"unet", "position_map", "vre"}
    assert trained_parts(blind.network.vre) == {"projection"}


def test_one_step_of_the_baseline(blind: BaselineStage) -> None:
    assert set(one_step(blind, step=0)) == {"latent", "pixels", "features"}
    assert blind.pictures().shape == (3, 3 * 512, 2 * 512)


def test_the_baseline_learns_whose_face_it_is_where_that_is_set(workshop: Workshop) -> None:
    """Eq. 8 reaches the blind model too, as in OSDFace's training; without a recogniser that is refused at once."""
    settings = workshop.baseline().model_dump() | {"identity_weight": 0.5, "face_every": 2}
    with pytest.raises(ValidationError, match="identity_weight needs a recogniser"):
        BaselineConfig.model_validate(settings)
    tools = workshop.runs / "identity.safetensors"
    stage = BaselineStage(BaselineConfig.model_validate(settings | {"identity": tools}))
    nn.init.normal_(stage.network.unet.conv_out.weight, std=0.02)
    assert set(one_step(stage, step=0)) == {"latent", "pixels", "features"}
    losses = one_step(stage, step=1)
    assert set(losses) == {"latent", "identity"} and 0 < float(losses["identity"]) <= 2 * 0.5 * 2
    stage.network.zero_grad()
    stage.losses(default_collate([stage.dataset[0]]), 1)["identity"].backward()
    assert stage.network.unet.conv_out.weight.grad is not None and stage.network.unet.conv_out.weight.grad.any()
    assert not any(parameter.requires_grad for parameter in stage.teachers.parameters())


def test_the_perceptual_distance_can_wait(blind: BaselineStage) -> None:
    blind.config = blind.config.model_copy(update={"feature_from": 4})
    try:
        assert [set(one_step(blind, step=step)) for step in (2, 4)] == [
            {"latent", "pixels"},
            {"latent", "pixels", "features"},
        ]
    finally:
        blind.config = blind.config.model_copy(update={"feature_from": 0})


@pytest.mark.parametrize("stage", ["blind", "referenced"])
def test_losses_of_several_squares_are_their_mean(stage: str, request: pytest.FixtureRequest) -> None:
    trained: BaselineStage | HonestFaceStage = request.getfixturevalue(stage)
    alone, several = trained.config, trained.config.model_copy(update={"squares": 3})
    batch = default_collate([trained.dataset[0]])
    try:
        torch.manual_seed(3)
        with torch.no_grad():
            ones = [trained.losses(batch, 1) for _ in range(3)]
            torch.manual_seed(3)
            trained.config = several
            together = trained.losses(batch, 1)
    finally:
        trained.config = alone
    assert len({float(one["pixels"]) for one in ones}) == 3
    for name in together:
        assert float(together[name]) == pytest.approx(sum(float(one[name]) for one in ones) / 3, rel=1e-5)


def test_one_step_with_references(referenced: HonestFaceStage) -> None:
    assert trained_parts(referenced.network) == {"identity_embedder", "reference_adapter", "vre", "unet"}
    assert all(".lora_" in name for name, p in referenced.network.unet.named_parameters() if p.requires_grad)
    assert set(one_step(referenced, step=0)) == {"latent", "pixels", "features", "mfa"}
    assert set(one_step(referenced, step=1)) == {"latent", "pixels"}
    losses = one_step(referenced, step=3)
    assert set(losses) == {"latent", "identity"}
    assert 0 <= float(losses["identity"]) <= 4 * 0.3 * 2


def test_without_lora_the_whole_unet_learns_with_references(referenced: HonestFaceStage, workshop: Workshop) -> None:
    stage = HonestFaceStage(workshop.honestface().model_copy(update={"lora_rank": 0, "run": workshop.runs / "whole"}))
    expected = {"identity_embedder", "reference_adapter", "vre", "unet", "position_map"}
    assert trained_parts(stage.network) == expected and trained_parts(stage.network.vre) == {"projection"}
    assert all(p.requires_grad for part in ("unet", "position_map") for p in getattr(stage.network, part).parameters())
    plain = referenced.network.state_dict()
    for name, weight in stage.network.unet.state_dict().items():  # as the baseline left it, without adapters
        layer, _, kind = name.rpartition(".")
        there = f"unet.{name}" if f"unet.{name}" in plain else f"unet.{layer}.base_layer.{kind}"
        assert torch.equal(weight, plain[there])
    assert set(one_step(stage, step=0)) == {"latent", "pixels", "features", "mfa"}


def test_whole_faces_cost_what_their_weights_say(referenced: HonestFaceStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """To two recognisers that never see a person twice."""
    settings = {"latent_weight": 0.7, "identity_weight": 0.5, "face_every": 3}
    people = cycle(torch.eye(2)[:, None])
    recogniser = SimpleNamespace(embed=lambda _: next(people))
    monkeypatch.setattr(referenced, "config", referenced.config.model_copy(update=settings))
    monkeypatch.setattr(referenced, "encoders", [recogniser, recogniser])
    monkeypatch.setattr(HonestFace, "predict", lambda network, latent, *_: latent)
    latent, target = torch.randn(2, 1, 24, 8, 8)
    given = Given(latent, target, torch.zeros(1, 3, 32, 32), cast(Any, None))
    losses = {name: float(loss) for name, loss in referenced._square(given, True, 2).items()}
    assert losses == pytest.approx({"latent": 0.7 * float(F.l1_loss(latent, target)), "identity": 3 * 0.5 * 2})


def calls_of(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> list[tuple[tuple[Any, ...], Any]]:
    """Arguments and answers of a function from now on."""
    function, calls = getattr(owner, name), []

    def noted(*arguments: Any) -> Any:
        calls.append((arguments, function(*arguments)))
        return calls[-1][1]

    monkeypatch.setattr(owner, name, noted)
    return calls


def test_the_reference_and_the_mask_of_a_square_are_of_its_place(
    referenced: HonestFaceStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, corner = default_collate([referenced.dataset[0]]), (7, 50)
    monkeypatch.setattr(restoration_stage, "random_corner", lambda *_: corner)
    bent, steered = (calls_of(monkeypatch, HonestFace, name) for name in ("see", "steer"))
    decoded = calls_of(monkeypatch, restoration_stage, "decode_square")
    masked = calls_of(monkeypatch, honestface, "masked_distance")
    with torch.no_grad():
        referenced.losses(batch, 0)
        mask = attention_mask(referenced.landmark_detector.landmarks(batch["lq"]).heatmaps, 512)
    assert torch.equal(steered[0][0][2].latent, cut(bent[0][1].latent, corner, 32))
    assert torch.equal(masked[0][0][2], cut(mask, decoded[0][1].corner, 64))


def test_masked_face_alignment_counts_however_often_faces_are_whole(referenced: HonestFaceStage) -> None:
    settings, batch = referenced.config, default_collate([referenced.dataset[0]])
    referenced.config = settings.model_copy(update={"face_every": 2, "mfa_every": 2})
    try:
        with torch.no_grad():
            assert [set(referenced.losses(batch, step)) & {"mfa", "identity"} for step in range(3)] == [
                {"mfa"},
                {"identity"},
                {"mfa"},
            ]
    finally:
        referenced.config = settings


def test_without_heatmaps_mfa_is_the_plain_distance_of_the_decoded_square(
    referenced: HonestFaceStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Table 3b's ablation."""
    squares: list[DecodedSquare] = []

    def decode(*arguments: Any) -> DecodedSquare:
        squares.append(decode_square(*arguments))
        return squares[-1]

    settings, batch = referenced.config, default_collate([referenced.dataset[0]])
    monkeypatch.setattr(restoration_stage, "decode_square", decode)
    found, plain = [], []
    for heatmap in (False, True):
        monkeypatch.setattr(referenced, "config", settings.model_copy(update={"mfa_heatmap": heatmap}))
        torch.manual_seed(0)
        with torch.no_grad():
            found.append(float(referenced.losses(batch, 0)["mfa"]))
            distance = referenced.mfa_distance(squares[-1].restored, squares[-1].truth)
        plain.append(settings.mfa_every * settings.mfa_weight * float(distance))
    assert plain[0] == plain[1] == pytest.approx(found[0], rel=1e-6) != 0
    assert found[1] != pytest.approx(found[0], rel=1e-2)


def test_a_square_is_restored_as_the_same_place_of_the_whole_face(blind: BaselineStage) -> None:
    latent = torch.randn(1, 64, 64, 64)
    positions = blind.network.position_map
    assert positions is not None
    corner = (8, 24)
    assert torch.equal(positions(cut(latent, corner, 16), corner), cut(positions(latent), corner, 16))


def test_one_step_against_discriminators(workshop: Workshop) -> None:
    settings = {"latent_gan_weight": 0.01, "feature_gan_weight": 0.02, "feature_gan_side": 64, "gan_r1": 1.0}
    stage = HonestFaceStage(workshop.honestface().model_copy(update=settings))
    assert set(one_step(stage, step=2)) >= {"latent", "latent_gan", "feature_gan"}
    assert stage.adversary is not None
    own = stage.adversary.losses(8)
    assert set(own) == {f"{name}_{kind}" for name in ("latent", "feature") for kind in ("discriminator", "r1")}
    stage.adversary.zero_grad()
    torch.stack(list(own.values())).sum().backward()
    named = [(name, p) for name, p in stage.adversary.named_parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for name, p in named)
    assert any(".lora_" in name for name, _ in named)
    assert all(p.grad is None for p in stage.network.parameters())


def test_a_run_that_goes_on_has_the_discriminator_it_began_with(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its UNet is a frozen copy of random weights, which no checkpoint holds."""
    stages: list[BaselineStage] = []

    class NoTrainer:
        def __init__(self, stage: Stage, *_: object) -> None:
            assert isinstance(stage, BaselineStage)
            stages.append(stage)

        def fit(self) -> None: ...

    monkeypatch.setattr(run_module, "Trainer", NoTrainer)
    settings: TrainingConfig = workshop.baseline().model_copy(update={"latent_gan_weight": 0.01})
    (tmp_path / "settings.yaml").write_text(settings.model_dump_json(exclude_none=True))
    for seed in (3, 3, 4):
        run_module.run("baseline", tmp_path / "settings.yaml", [f"seed={seed}"])
    first, again, other = (stage.adversary.state_dict() for stage in stages if stage.adversary is not None)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert any(not torch.equal(value, other[name]) for name, value in first.items() if ".base_layer." in name)
    assert set(one_step(stages[0])) >= {"latent", "latent_gan"}


def test_the_exported_model_restores_as_the_trained_one_did(referenced: HonestFaceStage, workshop: Workshop) -> None:
    folder = workshop.runs / "honestface"
    referenced.export(folder)
    assert read_shape(folder).profile == "tiny"
    loaded = HonestFace(read_shape(folder).generator).eval()
    assert loaded.config == TINY
    assert read_shape(workshop.runs / "baseline").generator == replace(
        TINY, identity_embedder=None, reference_adapter=None
    )
    for name, part in loaded.named_children():
        if part.state_dict():
            load_component(part, folder / f"{name}.safetensors")
    batch = {key: value[:1] for key, value in referenced.held_out.items()}
    batch["reference_present"] = torch.tensor([[True, False]])
    with torch.inference_mode():
        references, marks, who = referenced.condition(batch)
        expected = referenced.network.eval()(batch["lq"], references, marks.points, who)
        found = loaded(batch["lq"], references, marks.points, who)
        without = loaded(batch["lq"])
    scale = float(expected.restored_latent.abs().mean())
    assert torch.allclose(found.restored_latent, expected.restored_latent, atol=1e-3 * scale)
    assert not torch.allclose(without.restored_latent, expected.restored_latent, atol=1e-2 * scale)


def test_references_are_packed_as_far_as_they_are_there(referenced: HonestFaceStage) -> None:
    batch = copy.copy(referenced.held_out)
    batch["reference_present"] = torch.tensor([[False, False], [True, False]])
    references, marks, who = referenced.condition(batch)
    assert references is not None and references.owner.tolist() == [1] and references.batch == 2
    assert torch.equal(references.images[0], batch["reference_images"][1, 0])
    assert torch.allclose(
        references.identity[0], referenced.identity_encoder.embed(batch["reference_images"][1, :1])[0]
    )
    assert torch.equal(
        references.landmarks, referenced.landmark_detector.landmarks(batch["reference_images"][1, :1]).points
    )
    assert marks.points.shape == (2, 68, 2) and who.shape == (2, 128)
    batch["reference_present"] = torch.zeros(2, 2, dtype=torch.bool)
    assert referenced.condition(batch)[0] is None


def test_a_wrong_person_is_the_next_sample_of_another(
    referenced: HonestFaceStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for people, expected in (([5, 5, 7, 5], [2, 2, 3, 2]), ([5, 5], [1, 0]), ([5], [0])):
        monkeypatch.setattr(referenced, "held_out", {"person": torch.tensor(people)})
        assert [referenced._stranger(index) for index in range(len(people))] == expected


def test_held_out_samples_have_references_of_their_own_person_or_of_a_stranger(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Erwin has one picture: he is not among them."""
    faces = load_faces(workshop.data, "val")
    erwin = replace(faces.files[0], identity="erwin")
    monkeypatch.setattr(honestface, "load_faces", lambda *_: Faces([erwin, *faces.files]))
    monkeypatch.setattr(honestface, "held_out_samples", lambda dataset, _: held_out_samples(dataset, 4))
    stage = HonestFaceStage(workshop.honestface())
    people = stage.held_out["person"].tolist()
    assert set(people) == {1, 2} and stage.held_out["reference_present"].any(1).all()
    given: list[References | None] = []

    def restore(lq: Tensor, references: References | None, *_: Tensor) -> SimpleNamespace:
        given.append(references)
        return SimpleNamespace(restored=lq)

    monkeypatch.setattr(stage.network, "forward", restore)
    for mode, same in (("own", True), ("wrong", False)):
        given.clear()
        stage._restore(mode)
        for person, references in zip(people, given, strict=True):
            assert references is not None
            shown = stage.held_out["reference_images"][:, 0]
            owner = next(i for i, image in enumerate(shown) if torch.equal(image, references.images[0]))
            assert (people[owner] == person) == same


def test_pictures_show_blind_and_referenced(referenced: HonestFaceStage) -> None:
    referenced.network.eval()
    with torch.inference_mode():
        assert referenced.pictures().shape == (3, 5 * 512, 2 * 512)


def test_a_stage_says_which_component_is_missing(workshop: Workshop) -> None:
    config = workshop.baseline().model_copy(update={"vae": workshop.runs / "nowhere.safetensors"})
    with pytest.raises(WeightsError, match=r"nowhere\.safetensors is missing: train the stage that makes it"):
        BaselineStage(config)
