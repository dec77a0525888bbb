import pytest
import torch

from models.feature_fusion import FeatureFusion
from models.identity_embedder import IdentityPrompt


def prompt(*present: bool) -> IdentityPrompt:
    tokens = torch.full((len(present), 11, 8), 5.0)
    return IdentityPrompt(tokens, torch.tensor(present), torch.tensor([0 if p else -1 for p in present]))


VISUAL = torch.randn(3, 77, 8, generator=torch.Generator().manual_seed(0))


def test_identity_tokens_take_the_place_of_the_farthest_visual_ones() -> None:
    fused = FeatureFusion()(VISUAL, prompt(True, True, True))
    assert fused.shape == VISUAL.shape
    assert torch.equal(fused[:, :66], VISUAL[:, :66])
    assert torch.equal(fused[:, 66:], torch.full((3, 11, 8), 5.0))


def test_without_references_the_prompt_is_the_blind_one_bit_for_bit() -> None:
    assert torch.equal(FeatureFusion()(VISUAL, None), VISUAL)
    mixed = FeatureFusion()(VISUAL, prompt(True, False, True))
    assert torch.equal(mixed[1], VISUAL[1])
    assert not torch.equal(mixed[0], VISUAL[0])


def test_meaningless_identity_tokens_do_not_leak() -> None:
    identity = prompt(False, True, True)
    identity.tokens[0] = torch.nan
    visual = VISUAL.clone().requires_grad_()
    fused = FeatureFusion()(visual, identity)
    fused.sum().backward()
    assert torch.equal(fused[0], VISUAL[0])
    assert visual.grad is not None
    assert torch.equal(visual.grad[0], torch.ones(77, 8))


def test_prompt_keeps_the_type_of_the_visual_tokens() -> None:
    assert FeatureFusion()(VISUAL.bfloat16(), prompt(True, False, True)).dtype == torch.bfloat16


def test_too_many_identity_tokens() -> None:
    with pytest.raises(ValueError, match="11 identity tokens do not fit into 10"):
        FeatureFusion()(VISUAL[:, :10], prompt(True, True, True))


def test_nothing_to_learn() -> None:
    assert not FeatureFusion().state_dict()
