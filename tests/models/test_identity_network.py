import pytest
import torch

from models.geometry import arcface_crop
from models.identity_network import EmbeddedIdentityEncoder, IdentityNetwork, IdentityNetworkConfig

SMALL = IdentityNetworkConfig(widths=(8, 8, 8, 8), blocks=(1, 0, 1, 1), embedding=16)


@pytest.fixture(scope="module")
def encoder() -> EmbeddedIdentityEncoder:
    torch.manual_seed(0)
    return EmbeddedIdentityEncoder(IdentityNetwork(SMALL), "small")


def faces(count: int) -> torch.Tensor:
    return torch.rand(count, 3, 512, 512, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_embeddings_are_unit_vectors(encoder: EmbeddedIdentityEncoder) -> None:
    found = encoder.embed(faces(2))
    assert found.shape == (2, encoder.width) == (2, 16)
    assert torch.allclose(found.norm(dim=1), torch.ones(2), atol=1e-6)
    assert not torch.allclose(found[0], found[1], atol=1e-4)


def test_what_is_embedded_is_the_arcface_crop(encoder: EmbeddedIdentityEncoder) -> None:
    assert torch.equal(encoder.embed(faces(1)), encoder.network(arcface_crop(faces(1))))


def test_a_face_is_embedded_the_same_in_any_company(encoder: EmbeddedIdentityEncoder) -> None:
    assert torch.allclose(encoder.embed(faces(2))[1:], encoder.embed(faces(2)[1:]), atol=1e-5)


def test_the_embedding_is_differentiable_in_the_face(encoder: EmbeddedIdentityEncoder) -> None:
    images = faces(1).requires_grad_()
    encoder.embed(images)[:, 0].sum().backward()
    assert images.grad is not None and images.grad.any()
