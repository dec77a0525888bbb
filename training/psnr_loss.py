"""PSNR as a loss (ours): a picture's error counts by what share of it is taken away, not by how much."""

from torch import Tensor

#: Squared error, of values in [-1, 1], below which pictures hardly tell apart: 46 dB.
NEGLIGIBLE = 1e-4


def psnr_loss(restored: Tensor, truth: Tensor) -> Tensor:
    """The mean over pictures `[B, 3, H, W]` in [-1, 1] of ln(1 + MSE / 1e-4), `[]`.

    0 for the truth; well below 46 dB 0.23 less for every dB of PSNR more. Under L1 or MSE a batch is mostly about its
    blurred pictures, whose errors are large whatever is done: here scratches on a sharp one weigh as much (ADR 029).
    """
    errors = (restored.float() - truth.float()).square().mean((1, 2, 3))
    return (errors / NEGLIGIBLE).log1p().mean()
