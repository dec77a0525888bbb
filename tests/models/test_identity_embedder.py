import pytest
import torch
import torch.nn.functional as F

from models.face_identity_encoder import FaceIdentityEncoderConfig
from models.facial_feature_extractor import FacialFeatureExtractorConfig
from models.feature_fusion import FeatureFusion
from models.identity_embedder import IdentityEmbedder, IdentityEmbedderConfig
from models.references import Reference, References
from tests.models.drawn_face import drawn_landmarks

CONFIG = IdentityEmbedderConfig(
    FacialFeatureExtractorConfig(prompt_width=24, patch_size=16, width=16),
    FaceIdentityEncoderConfig(prompt_width=24, identity_width=8, width=16),
)


def embedder() -> IdentityEmbedder:
    torch.manual_seed(0)
    return IdentityEmbedder(CONFIG)


def reference(seed: int) -> Reference:
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(3, 128, 128, generator=generator) * 2 - 1
    return Reference(image, drawn_landmarks(seed) / 4, F.normalize(torch.randn(8, generator=generator), dim=0))


LANDMARKS = torch.stack([drawn_landmarks(seed) / 4 for seed in (21, 22, 23)])
BATCH = [[reference(1), reference(2), reference(3)], [], [reference(4)]]


def packed(batch: list[list[Reference]] = BATCH) -> References:
    references = References.pack(batch)
    assert references is not None
    return references


def test_eleven_tokens_where_there_are_references_and_zeros_elsewhere() -> None:
    ide = embedder()
    prompt = ide(LANDMARKS, packed())
    assert prompt.tokens.shape == (3, 11, 24)
    assert ide.tokens == 11
    assert prompt.present.tolist() == [True, False, True]
    assert prompt.optimal[1:].tolist() == [-1, 3]
    assert not prompt.tokens[1].any()
    assert (prompt.tokens[[0, 2]].abs().amax(-1) > 0).all()


def test_eyes_are_those_of_the_optimal_reference_only() -> None:
    ide = embedder()
    prompt = ide(LANDMARKS[:1], packed(BATCH[:1]))
    best = int(prompt.optimal[0])
    for row in range(3):
        references = packed(BATCH[:1])
        references.images[row] = 0
        changed = not torch.equal(ide(LANDMARKS[:1], references).tokens, prompt.tokens)
        assert changed == (row == best)


def test_order_of_references_does_not_matter() -> None:
    ide = embedder()
    forwards, backwards = (ide(LANDMARKS[:1], packed([own])).tokens for own in (BATCH[0], BATCH[0][::-1]))
    torch.testing.assert_close(forwards, backwards, rtol=0, atol=1e-6)


def test_tokens_do_not_depend_on_batch_mates() -> None:
    ide = embedder()
    together = ide(LANDMARKS, packed())
    for image in (0, 2):
        alone = ide(LANDMARKS[image : image + 1], packed([BATCH[image]]))
        torch.testing.assert_close(alone.tokens[0], together.tokens[image], rtol=0, atol=1e-5)


def test_with_fusion_an_image_without_references_stays_blind() -> None:
    visual = torch.randn(3, 77, 24, generator=torch.Generator().manual_seed(0))
    fused = FeatureFusion()(visual, embedder()(LANDMARKS, packed()))
    assert torch.equal(fused[1], visual[1])
    assert torch.equal(fused[0, :66], visual[0, :66])


def test_nothing_is_read_back_from_the_device() -> None:
    # The meta device has no values to read: whatever needs one fails here.
    prompt = embedder().to("meta")(LANDMARKS.to("meta"), packed().to("meta"))
    assert prompt.tokens.shape == (3, 11, 24)


def test_every_parameter_learns() -> None:
    ide = embedder()
    ide(LANDMARKS, packed()).tokens.square().sum().backward()
    for name, parameter in ide.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_two_prompt_widths_are_an_error() -> None:
    with pytest.raises(ValueError, match="one prompt width"):
        IdentityEmbedderConfig(encoder=FaceIdentityEncoderConfig(prompt_width=256))
