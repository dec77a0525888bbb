import numpy as np
import pytest
import torch
from skimage.color import rgb2lab

from models.colour_shift import colour_shift, to_cielab


def face(seed: int = 0) -> torch.Tensor:
    small = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) - 0.5
    return torch.nn.functional.interpolate(small, (512, 512), mode="bicubic")[0].clamp(-1, 1)


def test_cielab_is_that_of_scikit_image() -> None:
    picture = torch.rand(1, 3, 20, 30, generator=torch.Generator().manual_seed(1))
    expected = rgb2lab(picture[0].permute(1, 2, 0).double().numpy())
    np.testing.assert_allclose(to_cielab(picture * 2 - 1)[0].permute(1, 2, 0), expected, atol=0.02)


def test_no_shift_is_zero_and_the_figure_repeats() -> None:
    assert colour_shift(face(), face()) == 0
    assert colour_shift(face(0), face(1)) == colour_shift(face(0), face(1)) > 1


@pytest.mark.parametrize("lightness", [40, 60])
def test_a_uniform_shift_reads_its_length(lightness: float) -> None:
    one, other = torch.full((3, 512, 512), lightness / 100), torch.full((3, 512, 512), lightness / 100 + 0.1)
    expected = (to_cielab(one[None]) - to_cielab(other[None]))[0, :, 0, 0].norm()
    assert colour_shift(one, other) == pytest.approx(float(expected), rel=1e-4)


def test_a_stronger_cast_reads_more() -> None:
    cast = torch.tensor([0.1, -0.05, 0.0])[:, None, None]
    assert 0.5 < colour_shift(face() + cast, face()) < colour_shift(face() + 2 * cast, face())


def test_fine_texture_is_no_shift_of_colour() -> None:
    noise = 0.2 * torch.randn(3, 512, 512, generator=torch.Generator().manual_seed(2))
    cast = torch.tensor([0.2, -0.1, 0.0])[:, None, None]
    assert colour_shift(face() + noise, face()) < 0.3 * colour_shift(face() + cast, face())
