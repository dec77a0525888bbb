import pytest
import torch
from torch.nn.functional import normalize

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


def test_a_mirror_image_shows_the_same_person(encoder: EmbeddedIdentityEncoder) -> None:
    crops = arcface_crop(faces(2))
    one_way, other_way = encoder.network.describe(crops), encoder.network.describe(crops.flip(3))
    assert not torch.allclose(one_way, other_way, atol=1e-3), "a single view tells them apart"
    for view in (crops, crops.flip(3)):
        assert torch.allclose(encoder.network(view), normalize(one_way + other_way, dim=1), atol=1e-6)


def test_whitening_does_nothing_until_it_is_fitted() -> None:
    torch.manual_seed(0)
    network, crops = IdentityNetwork(SMALL).eval(), torch.randn(2, 3, 112, 112)
    assert torch.allclose(network(crops), network.describe_both_ways(crops), atol=1e-6)
    network.whitening.weight.copy_(torch.diag(torch.tensor([3.0, *[1.0] * 15])))
    stretched = network.describe_both_ways(crops) * torch.tensor([3.0, *[1.0] * 15])
    assert torch.allclose(network(crops), stretched / stretched.norm(dim=1, keepdim=True), atol=1e-6)
