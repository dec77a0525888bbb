import pytest
import torch

from models.vgg16 import VGG16


def test_key_names_and_parameters_are_torchvisions() -> None:
    with torch.device("meta"):
        network = VGG16()
    convolutions = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert list(network.state_dict()) == [f"features.{i}.{part}" for i in convolutions for part in ("weight", "bias")]
    assert sum(p.numel() for p in network.parameters()) == 14_714_688


def test_layers_of_a_short_network_are_those_of_a_longer_one() -> None:
    torch.manual_seed(0)
    short, long = VGG16(last=2), VGG16(last=7)
    long.load_state_dict(short.state_dict(), strict=False)
    picture = torch.rand(2, 3, 16, 16) * 2 - 1
    colour_and_structure = short.layers(picture, (0, 2))
    assert [tuple(x.shape) for x in colour_and_structure.values()] == [(2, 64, 16, 16)] * 2
    assert torch.equal(short(picture), long.layers(picture, (2, 7))[2])
    assert colour_and_structure[0].min() < 0  # before the ReLU


def test_pictures_are_normalised_from_minus_one_to_one() -> None:
    network = VGG16(last=0)
    mean = (torch.tensor([0.485, 0.456, 0.406]) * 2 - 1).view(1, 3, 1, 1)
    assert torch.allclose(network(mean.expand(1, 3, 4, 4)), network.features[0].bias.view(1, -1, 1, 1), atol=1e-5)  # type: ignore[union-attr]


@pytest.mark.parametrize("last", [-1, 31])
def test_only_existing_layers(last: int) -> None:
    with pytest.raises(ValueError, match="0 to 30"):
        VGG16(last)
    with pytest.raises(ValueError, match="no layer 5"):
        VGG16(2).layers(torch.zeros(1, 3, 4, 4), (5,))
