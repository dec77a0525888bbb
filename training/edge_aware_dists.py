"""Edge-aware perceptual loss (Eq. 9): DISTS of two pictures and of their edges."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SOBEL = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])


def sobel_edges(images: Tensor) -> Tensor:
    """How steep pictures in [-1, 1] are, `[B, 3, H, W]`, again with black at -1: the steepest edges lie above 1.

    Mean of the channels in 0..1, Sobel's two 3x3 filters with a rim of zeros, sqrt(gx^2 + gy^2 + 1e-6).
    """
    grey = (images.float().mean(1, keepdim=True) + 1) / 2
    kernels = torch.stack([SOBEL, SOBEL.T])[:, None].to(grey.device)
    with torch.autocast(grey.device.type, enabled=False):  # bfloat16 knows grey levels alone, not their differences
        steepness = (F.conv2d(grey, kernels, padding=1).square().sum(1, keepdim=True) + 1e-6).sqrt()
    return (2 * steepness - 1).expand(-1, 3, -1, -1)


class EdgeAware(nn.Module):
    """distance(x, y) + distance(Sobel x, Sobel y): Eq. 9 where the distance is DISTS (EA-DISTS)."""

    def __init__(self, distance: nn.Module) -> None:
        super().__init__()
        self.distance = distance
        self.name = f"edge-aware {distance.name}"

    def forward(self, restored: Tensor, truth: Tensor) -> Tensor:
        total: Tensor = self.distance(restored, truth) + self.distance(sobel_edges(restored), sobel_edges(truth))
        return total
