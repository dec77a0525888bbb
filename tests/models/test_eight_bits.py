import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.eight_bits import MARGIN, RoundedConvolution, measured_ranges, round_convolutions
from models.errors import WeightsError
from tests.small_generator import faces, small_generator

NAME = "unet.encoder.levels.1.0.conv1"


def convolution() -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(3, 4, 3, padding=1, stride=2)


def test_it_is_the_convolution_of_integers() -> None:
    layer = convolution()
    low, high = -0.5, 2.0
    x = torch.rand(2, 3, 8, 8, dtype=torch.float64) * 2.4 - 0.4
    step = MARGIN * (high - low) / 255
    zero = round(MARGIN * 0.5 / step)
    numbers = ((x / step).round() + zero).clamp(0, 255) - zero
    steps = layer.weight.abs().amax((1, 2, 3)).double() / 63
    weights = (layer.weight / steps.view(-1, 1, 1, 1)).round()
    assert weights.abs().amax((1, 2, 3)).tolist() == [63] * 4
    sums = F.conv2d(numbers, weights, stride=2, padding=1)
    assert layer.bias is not None
    expected = sums * (step * steps).view(-1, 1, 1) + layer.bias.view(-1, 1, 1)
    assert torch.allclose(RoundedConvolution(layer, low, high)(x.float()).double(), expected, atol=1e-5)


def test_what_is_far_outside_is_cut_off_and_zero_stays_zero() -> None:
    rounded = RoundedConvolution(convolution(), 0.3, 2.0)  # zero belongs to the range: pictures are padded with it
    ones = torch.ones(1, 3, 8, 8)
    assert torch.equal(rounded(99 * ones), rounded(2 * MARGIN * ones))
    assert torch.equal(rounded(-ones), rounded(0 * ones))
    assert torch.allclose(rounded(0 * ones), rounded.convolution(0 * ones))


@torch.inference_mode()
def test_a_generator_rounded_by_its_own_ranges_stays_near() -> None:
    generator, exact = small_generator(), small_generator()
    with measured_ranges(generator) as ranges:
        generator(faces(3))
    assert NAME in ranges and not any(name.endswith(("conv_in", "conv_out", "damping")) for name in ranges)
    assert torch.equal(generator(faces(3)).restored, exact(faces(3)).restored), "measuring changes nothing"
    round_convolutions(generator, ranges)
    assert isinstance(generator.get_submodule(NAME), RoundedConvolution)
    difference = (generator(faces(3)).restored - exact(faces(3)).restored).abs().mean()
    assert 0 < difference < 2 / 255


def test_ranges_are_the_least_and_the_largest_of_all_inputs() -> None:
    generator = small_generator()
    layer = generator.get_submodule(NAME)
    assert isinstance(layer, nn.Conv2d)
    x = torch.zeros(1, layer.in_channels, 4, 4)
    with measured_ranges(generator) as ranges:
        layer(x - 1)
        layer(x + 3)
        layer(x)
    layer(x + 9)
    assert ranges == {NAME: (-1.0, 3.0)}


@pytest.mark.parametrize("name", ["unet.nothing", "unet.conv_out", "vae.encoder"])
def test_ranges_of_another_generator(name: str) -> None:
    with pytest.raises(WeightsError, match=f"'{name}' is no convolution of this generator"):
        round_convolutions(small_generator(), {name: (0.0, 1.0)})
