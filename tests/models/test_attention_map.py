import math

import torch

from models.attention_map import attention_map


def test_equations_10_and_11() -> None:
    heatmaps = torch.zeros(1, 4, 2, 2)
    heatmaps[0, :, 0, 0] = torch.tensor([1.0, 0.2, 0.0, 0.0])  # averages to 0.3
    heatmaps[0, :, 1, 1] = 0.05
    result = attention_map(heatmaps)
    assert result.shape == (1, 2, 2)
    assert math.isclose(float(result[0, 0, 0]), 1.0, abs_tol=1e-5)
    assert math.isclose(float(result[0, 1, 1]), (1 - math.exp(-0.5)) / (1 - math.exp(-3)), abs_tol=1e-5)
    assert float(result[0, 0, 1]) == 0.0


def test_each_picture_is_normalised_by_itself() -> None:
    heatmaps = torch.rand(3, 68, 16, 16, generator=torch.Generator().manual_seed(0))
    together = attention_map(heatmaps * torch.tensor([1.0, 0.1, 0.01])[:, None, None, None])
    for i, factor in enumerate((1.0, 0.1, 0.01)):
        torch.testing.assert_close(together[i], attention_map(heatmaps[i : i + 1] * factor)[0])
    assert together.amin() >= 0 and together.amax() <= 1


def test_no_contrast_gives_zero() -> None:
    assert attention_map(torch.full((1, 68, 8, 8), 0.4)).abs().max() == 0
