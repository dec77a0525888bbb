import pytest
import torch

from training.texture_loss import texture_loss


def layers(seed: int = 0) -> list[torch.Tensor]:
    """Activations of two layers, of full and of half resolution, of pictures of 64 px."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(2, 4, side, side, generator=generator) for side in (64, 32)]


def test_nothing_between_activations_and_themselves() -> None:
    assert float(texture_loss(layers(), layers(), 64)) == 0


def test_a_known_value() -> None:
    """Every value a quarter of the layer's mean higher."""
    truth = layers()
    restored = [layer + layer.mean() / 4 for layer in truth]
    assert float(texture_loss(restored, truth, 64)) == pytest.approx(0.25, rel=1e-5)


def test_where_in_a_window_something_lies_costs_nothing() -> None:
    truth = layers()
    flat = [layer.unfold(2, s, s).unfold(3, s, s).clone() for layer, s in zip(truth, (32, 16), strict=True)]
    turned = [
        windows.flip(4, 5).permute(0, 1, 2, 4, 3, 5).reshape(2, 4, 2 * n, 2 * n)
        for windows, n in zip(flat, (32, 16), strict=True)
    ]
    assert not torch.equal(turned[0], truth[0])
    assert float(texture_loss(turned, truth, 64)) == pytest.approx(0, abs=1e-6)


def test_in_which_window_it_lies_costs() -> None:
    truth = [torch.zeros(1, 1, 64, 64)]
    truth[0][..., :32, :32] = torch.rand(32, 32, generator=torch.Generator().manual_seed(0))
    assert float(texture_loss([truth[0].roll(32, 3)], truth, 64)) == pytest.approx(2, rel=1e-5)


def test_smoothed_texture_costs_and_its_gradient_sharpens_it() -> None:
    truth = [layers()[0]]
    smooth = truth[0].mean((2, 3), keepdim=True) + 0.3 * (truth[0] - truth[0].mean((2, 3), keepdim=True))
    smooth.requires_grad_()
    loss = texture_loss([smooth], truth, 64)
    (gradient,) = torch.autograd.grad(loss, smooth)
    assert float(loss.detach()) > 0.2
    sharper = smooth.detach() - 0.1 * gradient.sign()
    assert sharper.std() > smooth.std() and float(texture_loss([sharper], truth, 64)) < float(loss.detach())
