import torch

from training.patch_discriminator import PatchDiscriminator


def test_a_score_for_every_patch_of_70_pixels() -> None:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(4).eval()
    picture = torch.randn(1, 3, 112, 96, requires_grad=True)
    scores = discriminator(picture)
    assert scores.shape == (1, 1, 12, 10)
    (slope,) = torch.autograd.grad(scores[0, 0, 6, 5], picture)
    rows, columns = slope.abs().sum((0, 1)).nonzero().unbind(1)
    assert int(rows.max() - rows.min()) + 1 == int(columns.max() - columns.min()) + 1 == 70


def test_its_layers_cannot_amplify() -> None:
    """Spectral normalisation: after some power iterations each layer's largest singular value is one."""
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(4)
    for _ in range(30):
        discriminator(torch.zeros(1, 3, 32, 32))
    for layer in discriminator.eval().layers[::2]:
        assert abs(float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)) - 1) < 0.02
