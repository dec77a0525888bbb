import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.honestface import Generated, HonestFace
from models.lora import adapter_state, add_adapters, merge_lora
from models.references import Reference, References
from tests.small_generator import SMALL, SMALL_SD21, faces, identities, landmarks, references, small_generator


@pytest.fixture(scope="module", params=[SMALL, SMALL_SD21], ids=["tiny", "sd21"])
def network(request: pytest.FixtureRequest) -> HonestFace:
    return small_generator(request.param)


@pytest.fixture(scope="module")
def tiny() -> HonestFace:
    return small_generator()


def restore(network: HonestFace, lq: Tensor, packed: References | None) -> Generated:
    with torch.inference_mode():
        return network(lq, packed, landmarks(len(lq)), identities(len(lq)))


def pack(*batch: list[Reference]) -> References:
    packed = References.pack(batch)
    assert packed is not None
    return packed


def parts(generated: Generated) -> tuple[Tensor, ...]:
    return generated.restored, generated.prompt, generated.latent, generated.restored_latent


def test_shapes_and_named_parts(network: HonestFace) -> None:
    channels = network.unet.config.out_channels
    found = restore(network, faces(2), None)
    assert found.restored.shape == (2, 3, 64, 64)
    assert found.prompt.shape == (2, 77, 24)
    assert found.latent.shape == found.restored_latent.shape == (2, channels, 8, 8)
    assert not torch.equal(found.latent, found.restored_latent)


def test_without_references_the_prompt_is_the_vre_alone(network: HonestFace) -> None:
    with torch.inference_mode():
        assert torch.equal(network(faces(2)).prompt, network.vre(faces(2)))


def test_who_has_no_references_is_restored_blind_bit_for_bit_in_a_mixed_batch(network: HonestFace) -> None:
    lq = faces(3)
    blind = restore(network, lq, None)
    mixed = restore(network, lq, pack([], list(references(2)), []))
    for without, beside in zip(parts(blind), parts(mixed), strict=True):
        assert torch.equal(without[0], beside[0]) and torch.equal(without[2], beside[2])
    assert not torch.allclose(blind.restored[1], mixed.restored[1], atol=1e-4)


def test_references_reach_the_right_image_of_a_batch(network: HonestFace) -> None:
    a, b, c = references(3)
    lq = faces(2)
    together = restore(network, lq, pack([a], [b, c]))
    with torch.inference_mode():
        for index, own in enumerate(([a], [b, c])):
            one = slice(index, index + 1)
            alone = network(lq[one], pack(own), landmarks(2)[one], identities(2)[one])
            assert torch.allclose(together.restored[one], alone.restored, atol=1e-4)


def test_the_order_of_references_does_not_matter(network: HonestFace) -> None:
    people = list(references(3))
    forward, backward = (restore(network, faces(1), pack(order)) for order in (people, people[::-1]))
    assert torch.allclose(forward.restored, backward.restored, atol=1e-5)


def test_only_the_reference_adapter_tells_strangers_apart(tiny: HonestFace) -> None:
    """A reference whose identity is opposite is shut out by the gate; the adapter's part of the change shrinks."""
    reference = references(1)[0]
    blindly = replace(SMALL, reference_adapter=None)
    tokens_only = small_generator(blindly)
    tokens_only.load_state_dict(tiny.state_dict(), strict=False)
    changes = []
    with torch.inference_mode():
        for sign in (1.0, -1.0):
            who = sign * reference.identity[None]
            with_adapter = tiny(faces(1), pack([reference]), landmarks(1), who).restored_latent
            without = tokens_only(faces(1), pack([reference]), landmarks(1), who).restored_latent
            changes.append(float((with_adapter - without).abs().mean()))
    assert changes[0] > 100 * changes[1]


def test_what_a_reference_shows_around_the_face_changes_nothing(tiny: HonestFace) -> None:
    reference = references(1)[0]
    beside, on_the_face = reference.image.clone(), reference.image.clone()
    side = reference.image.shape[-1]
    beside[:, :, : side // 16] = 1.0
    on_the_face[:, side // 2 : side // 2 + side // 16, side // 2 : side // 2 + side // 16] = 1.0
    plain, other_background, other_nose = (
        restore(tiny, faces(1), pack([replace(reference, image=image)])).restored
        for image in (reference.image, beside, on_the_face)
    )
    assert torch.equal(plain, other_background)
    assert not torch.equal(plain, other_nose)


def test_strength_moves_from_the_input_to_the_restored_latent(network: HonestFace) -> None:
    lq = faces(3)
    with torch.inference_mode():
        full = network(lq)
        found = network(lq, strength=torch.tensor([0.0, 0.5, 1.0]))
        half = network.vae.decode((full.latent + full.restored_latent) / 2)
        untouched = network.vae.decode(network.vae.encode(lq))
    assert torch.equal(found.restored[0], untouched[0])
    assert torch.allclose(found.restored[1], half[1], atol=1e-5)
    assert torch.equal(found.restored[2], full.restored[2])
    assert torch.equal(found.restored_latent, full.restored_latent)


def test_a_network_that_answers_zero_restores_nothing_in_residual_mode(tiny: HonestFace) -> None:
    silent = copy.deepcopy(tiny)
    for last in (silent.unet.conv_out, silent.unet.damping):
        last.weight.zero_()
        last.bias.zero_()
    with torch.inference_mode():
        found = silent(faces(1))
    assert torch.equal(found.restored_latent, found.latent)


def test_the_restored_latent_follows_equation_3() -> None:
    network = small_generator(SMALL_SD21)
    with torch.inference_mode():
        found = network(faces(1))
        epsilon = network.unet(found.latent, 399, found.prompt, return_dict=False)[0]
    assert torch.allclose(found.restored_latent, (found.latent - 0.75757 * epsilon) / 0.65275, atol=1e-4)


def test_seeds_draw_from_the_posterior_whatever_the_batch() -> None:
    network = small_generator(SMALL_SD21)
    lq = faces(2)
    with torch.inference_mode():
        mode = network(lq)
        seeded = network(lq, seeds=[None, 7])
        again = network(lq[1:], seeds=[7])
        other = network(lq[1:], seeds=[8])
    assert torch.equal(seeded.restored[0], mode.restored[0])
    assert not torch.allclose(seeded.restored[1], mode.restored[1], atol=1e-4)
    assert torch.allclose(seeded.restored[1:], again.restored, atol=1e-5)
    assert not torch.allclose(again.restored, other.restored, atol=1e-4)


def test_merged_adapters_restore_like_unmerged_ones(tiny: HonestFace) -> None:
    adapted, merged = copy.deepcopy(tiny), copy.deepcopy(tiny)
    add_adapters(adapted.unet)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in adapted.unet.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.02)
    merge_lora(merged.unet, adapter_state(adapted.unet))
    people = pack(list(references(2)))
    expected = restore(adapted, faces(1), people)
    assert torch.allclose(restore(merged, faces(1), people).restored, expected.restored, atol=1e-5)
    assert not torch.allclose(restore(tiny, faces(1), people).restored, expected.restored, atol=1e-3)


def test_references_need_landmarks_and_identity(tiny: HonestFace) -> None:
    packed = pack(list(references(1)))
    for given in ((None, None), (landmarks(1), None), (None, identities(1))):
        with pytest.raises(ValueError, match="landmarks and the identity"):
            tiny(faces(1), packed, *given)


def test_a_model_without_an_identity_embedder_takes_no_references() -> None:
    blind = small_generator(replace(SMALL, identity_embedder=None, reference_adapter=None))
    with pytest.raises(ValueError, match="takes no references"):
        restore(blind, faces(1), pack(list(references(1))))


def test_training_reaches_every_part_that_references_use() -> None:
    network = small_generator().requires_grad_(True)
    found = network(faces(1), pack(list(references(2))), landmarks(1), identities(1))
    found.restored.square().mean().backward()
    for part in (network.unet, network.identity_embedder, network.reference_adapter, network.position_map):
        assert part is not None
        silent = [name for name, p in part.named_parameters() if p.grad is None or not p.grad.any()]
        assert not silent
