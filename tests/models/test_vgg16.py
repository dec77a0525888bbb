import torch

from models.vgg16 import vgg16_features


def test_key_names_and_parameters_are_torchvisions() -> None:
    with torch.device("meta"):
        network = vgg16_features()
    convolutions = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert list(network.state_dict()) == [f"{i}.{part}" for i in convolutions for part in ("weight", "bias")]
    assert sum(p.numel() for p in network.parameters()) == 14_714_688


def test_layers_of_a_short_network_are_those_of_a_longer_one() -> None:
    short, long = vgg16_features(2), vgg16_features(7)
    long.load_state_dict(short.state_dict(), strict=False)
    picture = torch.rand(2, 3, 16, 16)
    structure = short(picture)
    assert structure.shape == (2, 64, 16, 16)
    assert structure.min() < 0, "the last layer is a convolution, before its ReLU"
    assert torch.equal(structure, long[:3](picture))
    assert long(picture).shape == (2, 128, 8, 8)
