import torch
import torch.nn.functional as F
from torch import Tensor

from models.face_identity_encoder import FaceIdentityEncoder, FaceIdentityEncoderConfig

OWNER = torch.tensor([0, 0, 0, 2, 3, 3])


def encoder() -> FaceIdentityEncoder:
    torch.manual_seed(0)
    return FaceIdentityEncoder(FaceIdentityEncoderConfig(prompt_width=24, identity_width=16, width=20))


def identities(rows: int = 6) -> Tensor:
    return F.normalize(torch.randn(rows, 16, generator=torch.Generator().manual_seed(1)), dim=-1)


def test_seven_tokens_for_any_number_of_references() -> None:
    tokens = encoder()(identities(), OWNER, 4)
    assert tokens.shape == (4, 7, 24)
    assert tokens.isfinite().all()


def test_order_of_references_does_not_matter() -> None:
    fie, embeddings, owner = encoder(), identities(5), torch.zeros(5, dtype=torch.int64)
    for seed in range(5):
        order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(fie(embeddings[order], owner, 1), fie(embeddings, owner, 1), rtol=0, atol=1e-6)


def test_tokens_do_not_depend_on_batch_mates() -> None:
    fie, embeddings = encoder(), identities()
    together = fie(embeddings, OWNER, 4)
    for image in (0, 2, 3):
        rows = embeddings[image == OWNER]
        alone = fie(rows, torch.zeros(len(rows), dtype=torch.int64), 1)
        torch.testing.assert_close(alone[0], together[image], rtol=0, atol=1e-5)


def test_the_same_reference_twice_says_no_more_than_once() -> None:
    fie, one = encoder(), identities(1)
    twice = fie(one.repeat(2, 1), torch.zeros(2, dtype=torch.int64), 1)
    torch.testing.assert_close(twice, fie(one, torch.zeros(1, dtype=torch.int64), 1), rtol=0, atol=1e-6)


def test_one_reference_makes_seven_different_tokens_that_depend_on_it() -> None:
    tokens = encoder()(identities(2), torch.tensor([0, 1]), 2)
    assert torch.pdist(tokens[0]).min() > 0.01
    assert (tokens[0] - tokens[1]).abs().mean() > 0.01


def test_every_reference_is_heard() -> None:
    embeddings = identities(3).requires_grad_()
    encoder()(embeddings, torch.zeros(3, dtype=torch.int64), 1).square().sum().backward()
    assert embeddings.grad is not None
    assert (embeddings.grad.norm(dim=-1) > 1e-4).all()
