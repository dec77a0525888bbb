"""Synthetic low-quality faces in VQFR's order: blur, downsample, noise, JPEG, back to size; seeded per sample."""

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from models.geometry import Pixels
from training.print_damage import PrintDamage, grain, print_damage

Range = tuple[float, float]

KERNEL_SIZE = 41


@dataclass(frozen=True)
class Degradation:
    """Uniform ranges: blur sigma in pixels at 512 px, downsampling factor, noise sigma in levels of 255, JPEG quality.

    The chances (0..1) below `jpeg` belong to our own presets and are 0 in VQFR's. `resampling` shrinks and enlarges:
    VQFR's bilinearly without a filter against aliasing, since it blurs first; "bicubic" with one, as programs do.
    """

    blur: Range
    down: Range
    noise: Range
    jpeg: Range
    clean: float = 0.0
    grey: float = 0.0
    colour_cast: float = 0.0
    second_jpeg: float = 0.0
    sharpen: float = 0.0
    scan_texture: float = 0.0
    print_damage: PrintDamage | None = None
    resampling: Literal["bilinear", "bicubic"] = "bilinear"


PRESETS = {
    "vqfr-v1": Degradation(blur=(0.1, 10), down=(0.8, 8), noise=(0, 20), jpeg=(60, 100)),
    "vqfr-v2": Degradation(blur=(1, 15), down=(1, 30), noise=(0, 20), jpeg=(30, 90)),
    "wide": Degradation(
        blur=(0.1, 12),
        down=(1, 32),
        noise=(0, 20),
        jpeg=(30, 95),
        clean=0.03,
        grey=0.05,
        colour_cast=0.08,
        second_jpeg=0.25,
        sharpen=0.2,
        scan_texture=0.1,
    ),
    # what web sites keep of portraits: sharp, but small, and compressed
    "small": Degradation(
        blur=(0.1, 0.1),
        down=(1.5, 8),
        noise=(0, 3),
        jpeg=(50, 95),
        grey=0.05,
        second_jpeg=0.25,
        sharpen=0.2,
        resampling="bicubic",
    ),
    # photographs with little wrong: grain, soft focus, a compressed copy, or nothing (docs/adr/023)
    "mild": Degradation(
        blur=(0.1, 2.5),
        down=(1, 2.5),
        noise=(0, 25),
        jpeg=(40, 100),
        clean=0.1,
        grey=0.05,
        second_jpeg=0.2,
        sharpen=0.1,
        scan_texture=0.05,
        resampling="bicubic",
    ),
    # scans of old prints and of printed pages, and pictures taken in little light (docs/adr/028)
    "print": Degradation(
        blur=(0.1, 3),
        down=(1, 3),
        noise=(0, 8),
        jpeg=(50, 100),
        grey=0.3,
        colour_cast=0.1,
        print_damage=PrintDamage(),
        resampling="bicubic",
    ),
}


def degrade(
    picture: Pixels,
    preset: Degradation,
    rng: np.random.Generator,
    scale: float = 1.0,
    enlarge: Literal["lanczos"] | None = None,
) -> Pixels:
    """A low-quality version of an RGB picture `[H, W, 3]`, of the same size.

    `scale` is the picture's size over the 512 px that the preset's blur and downsampling are meant for. The small
    picture is enlarged by the preset's `resampling`; by Lanczos it is a baseline to compare with.
    """
    if rng.random() < preset.clean:
        return picture
    height, width = picture.shape[:2]
    image = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255
    image = blur(image, random_kernel(preset.blur, rng, scale))
    down = max(min(1.0, preset.down[0]), scale * rng.uniform(*preset.down))
    small = (max(4, round(height / down)), max(4, round(width / down)))
    image = _resized(image, small, preset)
    image = _extras_before_noise(image, preset, rng)
    if preset.print_damage is not None:
        image = print_damage(image, preset.print_damage, rng)
    image = grain(image, rng.uniform(*preset.noise) / 255, False, rng)
    image = jpeg(image, rng.uniform(*preset.jpeg))
    if rng.random() < preset.sharpen:  # the halos of an over-eager scanner or phone
        image = (image + rng.uniform(0.3, 1.2) * (image - blur(image, gaussian_kernel(1.0, 1.0, 0.0)))).clamp(0, 1)
    if rng.random() < preset.second_jpeg:
        image = jpeg(image, rng.uniform(*preset.jpeg))
    if enlarge == "lanczos":
        small_picture = Image.fromarray((image[0] * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy())
        return np.asarray(small_picture.resize((width, height), Image.Resampling.LANCZOS))
    image = _resized(image, (height, width), preset)
    out: Pixels = (image[0] * 255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    return out


def _resized(image: torch.Tensor, size: tuple[int, int], preset: Degradation) -> torch.Tensor:
    filtered = preset.resampling == "bicubic"
    return F.interpolate(image, size, mode=preset.resampling, align_corners=False, antialias=filtered)


def _extras_before_noise(image: torch.Tensor, preset: Degradation, rng: np.random.Generator) -> torch.Tensor:
    if rng.random() < preset.grey:
        image = image.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    if rng.random() < preset.colour_cast:
        gain = torch.tensor(rng.uniform(0.85, 1.15, 3), dtype=torch.float32).view(1, 3, 1, 1)
        shift = torch.tensor(rng.uniform(-0.05, 0.05, 3), dtype=torch.float32).view(1, 3, 1, 1)
        image = (image * gain + shift).clamp(0, 1)
    if rng.random() < preset.scan_texture:  # the dots and lines of a scanned print
        rows = torch.arange(image.shape[2], dtype=torch.float32).view(1, 1, -1, 1)
        columns = torch.arange(image.shape[3], dtype=torch.float32).view(1, 1, 1, -1)
        angle, period = rng.uniform(0, np.pi), rng.uniform(2, 5)
        wave = torch.sin(2 * np.pi / period * (rows * np.cos(angle) + columns * np.sin(angle)))
        image = (image * (1 + rng.uniform(0.02, 0.08) * wave)).clamp(0, 1)
    return image


def random_kernel(sigmas: Range, rng: np.random.Generator, scale: float = 1.0) -> torch.Tensor:
    """Isotropic or anisotropic Gaussian `[41, 41]`, half and half, turned by any angle."""
    first = scale * rng.uniform(*sigmas)
    second = first if rng.random() < 0.5 else scale * rng.uniform(*sigmas)
    return gaussian_kernel(first, second, rng.uniform(-np.pi, np.pi))


def gaussian_kernel(first: float, second: float, angle: float) -> torch.Tensor:
    """Gaussian `[41, 41]` of two standard deviations in pixels, sum 1."""
    axis = torch.arange(KERNEL_SIZE, dtype=torch.float32) - KERNEL_SIZE // 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kernel = torch.exp(-0.5 * ((u / first) ** 2 + (v / second) ** 2))
    return kernel / kernel.sum()


def blur(image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Convolution of `[B, C, H, W]` with one kernel, edges reflected; by FFT, which beats a direct 41x41 filter."""
    margin = min(kernel.shape[0] // 2, min(image.shape[2:]) - 1)
    middle = slice(KERNEL_SIZE // 2 - margin, KERNEL_SIZE // 2 + margin + 1)
    kernel = kernel[middle, middle]
    kernel = kernel / kernel.sum()
    padded = F.pad(image, (margin,) * 4, mode="reflect")
    size = [-(-side // 16) * 16 for side in padded.shape[2:]]  # 552 has a factor of 23: a third more time
    spectrum = torch.fft.rfft2(padded, s=size) * torch.fft.rfft2(kernel, s=size)
    height, width = padded.shape[2:]
    out: torch.Tensor = torch.fft.irfft2(spectrum, s=size)[..., 2 * margin : height, 2 * margin : width]
    return out


def jpeg(image: torch.Tensor, quality: float) -> torch.Tensor:
    """One JPEG round trip of `[1, 3, H, W]` in 0..1; the quality is rounded, as every encoder does."""
    pixels = (image[0] * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=round(quality))
    decoded = np.asarray(Image.open(stream).convert("RGB"))
    return torch.from_numpy(decoded.copy()).permute(2, 0, 1)[None].float() / 255
