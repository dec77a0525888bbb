from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.errors import HonestFaceError, WeightsError
from training.feature_distance import VGG16FeatureDistance


@pytest.fixture(scope="module")
def distance(vgg16_file: Path) -> VGG16FeatureDistance:
    return VGG16FeatureDistance(vgg16_file)


def images(seed: int) -> Tensor:
    return torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_equal_images_have_no_distance(distance: VGG16FeatureDistance) -> None:
    assert float(distance(images(0), images(0))) == 0
    assert float(distance(images(0), images(1))) > 0.01


def test_more_change_is_further(distance: VGG16FeatureDistance) -> None:
    steps = [float(distance(images(0) + amount * (images(1) - images(0)), images(0))) for amount in (0.1, 0.3, 1.0)]
    assert steps == sorted(steps)


def test_the_published_layers_in_caffes_order(vgg16_file: Path, distance: VGG16FeatureDistance) -> None:
    """By hand: BGR, 0..255 less the mean, convolution-ReLU pairs, a pooling before layer 5."""
    state = {key: value.float() for key, value in torch.load(vgg16_file, weights_only=True).items()}
    h = (images(0)[:, [2, 1, 0]] + 1) * 127.5 - torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1)
    expected = []
    for number in (0, 2, 5, 7):
        h = F.max_pool2d(h, 2) if number == 5 else h
        h = F.conv2d(h, state[f"features.{number}.weight"], state[f"features.{number}.bias"], padding=1).relu()
        if number in (2, 7):
            expected.append(h)
    found = distance.activations(images(0))
    assert [tuple(f.shape) for f in found] == [(2, 64, 24, 32), (2, 128, 12, 16)]
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-2) for a, b in zip(found, expected, strict=True))


def test_it_is_frozen_and_differentiable_in_the_restored_image(distance: VGG16FeatureDistance) -> None:
    restored = images(0).requires_grad_()
    distance(restored, images(1)).backward()
    assert restored.grad is not None and restored.grad.isfinite().all() and restored.grad.any()
    assert not any(parameter.requires_grad for parameter in distance.parameters())


def test_files_that_hold_no_vgg16(vgg16_file: Path, tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "half.pt")
    (tmp_path / "text.pt").write_text("no weights")
    torch.save({"features.0.weight": torch.zeros(1), "features.0.bias": torch.zeros(64)}, tmp_path / "shape.pt")
    torch.save(Path("an object"), tmp_path / "object.pt")
    torch.save([torch.zeros(3)], tmp_path / "list.pt")
    messages = {
        "nowhere.pt": "no such file",
        "half.pt": "not a VGG16 feature file: features.0.bias is missing",
        "shape.pt": "not a VGG16 feature file: features.0.weight is missing or of another shape",
        "text.pt": "cannot be read",
        "object.pt": "holds no weights",
        "list.pt": "holds no weights",
    }
    for name, message in messages.items():
        with pytest.raises(WeightsError, match=rf"^[^\n]*{name}[^\n]*{message}[^\n]*$"):
            VGG16FeatureDistance(tmp_path / name)
    with pytest.raises(WeightsError, match="not a VGG16 feature file"):
        VGG16FeatureDistance(vgg16_file, layers=(14,))  # a file that ends before that layer


@pytest.mark.parametrize("layer", [3, 4, 31, -1])
def test_layers_that_are_no_convolutions(vgg16_file: Path, layer: int) -> None:
    with pytest.raises(HonestFaceError, match=rf"layer {layer} of VGG16 is no convolution"):
        VGG16FeatureDistance(vgg16_file, layers=(2, layer))
