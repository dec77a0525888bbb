from pathlib import Path

import pytest
import torch

from training.feature_discriminator import FeatureDiscriminator
from training.feature_distance import VGG16FeatureDistance


@pytest.fixture
def discriminator(vgg16_file: Path) -> FeatureDiscriminator:
    torch.manual_seed(0)
    return FeatureDiscriminator(VGG16FeatureDistance(vgg16_file), width=8)


def test_a_score_of_each_layer_every_eight_pixels(discriminator: FeatureDiscriminator) -> None:
    picture = torch.rand(2, 3, 96, 64, requires_grad=True)
    scores = discriminator.eval()(picture)
    assert scores.shape == (2, 2 * 12 * 8)
    (slope,) = torch.autograd.grad(scores[1, 12 * 8 + 5 * 8 + 4], picture)
    assert not slope[0].any() and slope[1].any(), "each picture by itself"
    rows, columns = slope[1].abs().sum(0).nonzero().unbind(1)
    assert rows.min() <= 40 <= rows.max() < 96 and columns.min() <= 32 <= columns.max() < 64


def test_it_knows_where_on_the_face_it_looks(discriminator: FeatureDiscriminator) -> None:
    """A part's scores are those of the same place in the whole, away from its borders."""
    discriminator.eval()
    whole, where = torch.rand(1, 3, 256, 256), (64, 48)
    part = whole[:, :, 64 : 64 + 160, 48 : 48 + 160]
    with torch.no_grad():
        in_whole = discriminator(whole).view(2, 32, 32)[:, 8 : 8 + 20, 6 : 6 + 20]
        there, elsewhere = (discriminator(part, corner).view(2, 20, 20) for corner in (where, (200, 300)))
    inner = (slice(None), slice(8, 12), slice(8, 12))
    assert torch.allclose(there[inner], in_whole[inner], atol=1e-5)
    assert not torch.allclose(elsewhere[inner], in_whole[inner], atol=1e-3)


def test_only_its_heads_learn_and_their_layers_cannot_amplify(discriminator: FeatureDiscriminator) -> None:
    trained = {name.split(".")[0] for name, p in discriminator.named_parameters() if p.requires_grad}
    assert trained == {"heads"}
    for _ in range(30):
        discriminator(torch.zeros(1, 3, 32, 32))
    layers = [m for m in discriminator.eval().heads.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(layers) == 2 * 3 + 3 + 2
    for layer in layers:
        assert abs(float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)) - 1) < 0.05
