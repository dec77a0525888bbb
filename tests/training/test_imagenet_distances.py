"""LPIPS, DISTS and EA-DISTS with made-up weights against the formulas written out once more, and their files."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.errors import WeightsError
from models.vgg16 import vgg16_features
from training.dists import CHANNELS, DISTS, L2Pooling
from training.edge_aware_dists import EdgeAware, sobel_edges
from training.imagenet_backbone import TAPS, BackboneName, ImageNetBackbone, wheel_file
from training.lpips import LPIPS
from training.perceptual_distance import PerceptualConfig, perceptual_distance

#: Channels of what LPIPS compares.
WIDTHS: dict[BackboneName, tuple[int, ...]] = {
    "alex": (64, 192, 384, 256, 256),
    "vgg": (64, 128, 256, 512, 512),
    "squeeze": (64, 128, 256, 384, 384, 512, 512),
}
PARAMETERS = {"alex": 2_469_696, "vgg": 14_714_688, "squeeze": 722_496}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """State dicts as torchvision's, with a classifier behind, and weights as in the two wheels."""
    from training import imagenet_backbone

    folder = tmp_path_factory.mktemp("imagenet")
    torch.manual_seed(0)
    networks = {
        "alex": imagenet_backbone._alexnet(),
        "vgg": vgg16_features(),
        "squeeze": imagenet_backbone._squeezenet(),
    }
    for name, network in networks.items():
        state = {f"features.{key}": value for key, value in network.state_dict().items()}
        torch.save(state | {"classifier.1.weight": torch.zeros(2, 2)}, folder / f"{name}.pth")
    for name, widths in WIDTHS.items():
        linear = {f"lin{i}.model.1.weight": torch.rand(1, width, 1, 1) for i, width in enumerate(widths)}
        torch.save(linear, folder / f"linear_{name}.pth")
    total = sum(CHANNELS)
    torch.save({"alpha": torch.rand(1, total, 1, 1), "beta": torch.rand(1, total, 1, 1)}, folder / "dists.pt")
    return folder


def images(seed: int) -> Tensor:
    return torch.rand(2, 3, 48, 40, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("name", list(TAPS))
def test_backbones_are_torchvisions(name: BackboneName, folder: Path) -> None:
    backbone = ImageNetBackbone(name, folder / f"{name}.pth")
    assert sum(p.numel() for p in backbone.parameters()) == PARAMETERS[name]
    found = backbone(torch.zeros(1, 3, 64, 64))
    assert tuple(x.shape[1] for x in found) == WIDTHS[name]
    assert all((x >= 0).all() for x in found)


def test_pooling_of_squeezenet_and_alexnet_covers_the_rim(folder: Path) -> None:
    """torchvision pools SqueezeNet with ceil_mode: 63 -> 31 -> 15 -> 7 -> 3; AlexNet without: 15 -> 7 -> 3."""
    sizes = {
        name: [x.shape[-1] for x in ImageNetBackbone(name, folder / f"{name}.pth")(torch.zeros(1, 3, 64, 64))]
        for name in ("squeeze", "alex")
    }
    assert sizes == {"squeeze": [31, 15, 7, 3, 3, 3, 3], "alex": [15, 7, 3, 3, 3]}


@pytest.mark.parametrize("name", ["alex", "squeeze"])
def test_lpips_by_hand(name: BackboneName, folder: Path) -> None:
    distance = LPIPS(name, folder / f"{name}.pth", folder / f"linear_{name}.pth")
    linear = torch.load(folder / f"linear_{name}.pth", weights_only=True)
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    features = []
    for picture in (images(0), images(1)):
        x = (picture - shift.view(3, 1, 1)) / scale.view(3, 1, 1)  # LPIPS's own way to say ImageNet's mean and std
        outputs = []
        for number, layer in enumerate(distance.backbone.features):
            x = layer(x)
            if number in TAPS[name]:
                outputs.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        features.append(outputs)
    expected = sum(
        F.conv2d((a - b) ** 2, linear[f"lin{i}.model.1.weight"]).mean((1, 2, 3))
        for i, (a, b) in enumerate(zip(*features, strict=True))
    )
    assert isinstance(expected, Tensor)
    assert float(distance(images(0), images(1))) == pytest.approx(float(expected.mean()), rel=1e-4)
    assert float(distance(images(0), images(0))) == 0


def test_dists_by_hand(folder: Path) -> None:
    distance = DISTS(folder / "vgg.pth", folder / "dists.pt")
    weights = torch.load(folder / "dists.pt", weights_only=True)
    stages = [[(x + 1) / 2, *distance.backbone(x)] for x in (images(0), images(1))]
    total, similarity, start = weights["alpha"].sum() + weights["beta"].sum(), torch.zeros(2), 0
    for x, y in zip(*stages, strict=True):
        for c in range(0, x.shape[1], 97):  # some channels one by one, as in the paper
            a, b = x[:, c].flatten(1).double(), y[:, c].flatten(1).double()
            texture = (2 * a.mean(1) * b.mean(1) + 1e-6) / (a.mean(1) ** 2 + b.mean(1) ** 2 + 1e-6)
            covariance = ((a - a.mean(1, keepdim=True)) * (b - b.mean(1, keepdim=True))).mean(1)
            structure = (2 * covariance + 1e-6) / (a.var(1, correction=0) + b.var(1, correction=0) + 1e-6)
            for kind, value in (("alpha", texture), ("beta", structure)):
                similarity += (weights[kind][0, start + c, 0, 0] / total * value).float()
        start += x.shape[1]
    masked = DISTS(folder / "vgg.pth", folder / "dists.pt")
    keep = torch.cat([(torch.arange(width) % 97 == 0).float() for width in CHANNELS])
    masked.alpha *= keep
    masked.beta *= keep
    assert float(masked(images(0), images(1))) == pytest.approx(float(1 - similarity.mean()), abs=1e-5)
    assert float(distance(images(0), images(0))) == pytest.approx(0, abs=1e-5)


def test_l2_pooling_of_a_constant_and_of_a_dot() -> None:
    pool = L2Pooling()
    assert torch.allclose(pool(torch.full((1, 2, 9, 9), 3.0))[..., 1:-1, 1:-1], torch.tensor(3.0))
    dot = torch.zeros(1, 1, 5, 5)
    dot[0, 0, 2, 2] = 2.0
    assert float(pool(dot)[0, 0, 1, 1]) == pytest.approx(2.0 * math.sqrt(1 / 4))  # the kernel's middle: 1 of 4


def test_sobel_of_a_slope_is_eight_times_its_step() -> None:
    """A ramp that rises by 0.01 (of 0..1) a column: gx = 8 x 0.01, gy = 0."""
    ramp = (torch.arange(12) * 0.01).expand(1, 3, 10, 12) * 2 - 1
    edges = (sobel_edges(ramp) + 1) / 2
    assert edges.shape == (1, 3, 10, 12)
    assert torch.allclose(edges[..., 1:-1, 1:-1], torch.tensor(math.sqrt(0.08**2 + 1e-6)), atol=1e-5)
    assert torch.allclose(sobel_edges(ramp.mT).mT, sobel_edges(ramp), atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal((sobel_edges(ramp) + 1) / 2, edges)


def test_equation_9_is_the_distance_of_pictures_plus_that_of_edges(folder: Path) -> None:
    plain = DISTS(folder / "vgg.pth", folder / "dists.pt")
    both = EdgeAware(plain)
    expected = plain(images(0), images(1)) + plain(sobel_edges(images(0)), sobel_edges(images(1)))
    assert torch.equal(both(images(0), images(1)), expected)
    assert both.name == "edge-aware DISTS"
    picture = images(0).requires_grad_()
    both(picture, images(1)).backward()
    assert picture.grad is not None and picture.grad.isfinite().all() and picture.grad.abs().sum() > 0


def test_distances_as_settings(folder: Path, vgg16_file: Path) -> None:
    def named(**settings: object) -> str:
        return str(perceptual_distance(PerceptualConfig.model_validate(settings)).name)

    linear = {"backbone": folder / "squeeze.pth", "weights": folder / "linear_squeeze.pth"}
    assert named(kind="lpips-squeeze", **linear) == "LPIPS (squeeze)"
    dists = {"backbone": folder / "vgg.pth", "weights": folder / "dists.pt"}
    assert named(kind="dists", edges=True, **dists) == "edge-aware DISTS"
    assert named(kind="vgg16-features", backbone=vgg16_file) == "VGG16 features"
    assert named(kind="mse") == "MSE"
    for wrong, told in (
        ({"kind": "dists"}, "dists needs a backbone"),
        ({"kind": "mse", "backbone": folder}, "mse has no backbone"),
    ):
        with pytest.raises(ValueError, match=told):
            PerceptualConfig.model_validate(wrong)


def test_files_that_do_not_fit_are_named(folder: Path) -> None:
    with pytest.raises(WeightsError, match=r"alex\.pth is no torchvision state dict of this network \(vgg\)"):
        ImageNetBackbone("vgg", folder / "alex.pth")
    with pytest.raises(WeightsError, match="no linear weights of LPIPS"):
        LPIPS("alex", folder / "alex.pth", folder / "dists.pt")
    with pytest.raises(WeightsError, match="no weights of DISTS"):
        DISTS(folder / "vgg.pth", folder / "linear_alex.pth")


def test_a_wheels_file_is_found_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "lpips"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('torchvision')")
    (package / "alex.pth").write_bytes(b"")
    monkeypatch.syspath_prepend(tmp_path)
    assert wheel_file("lpips", "alex.pth") == package / "alex.pth"
    with pytest.raises(WeightsError, match=r"pip install --no-deps lpips==0\.1\.4"):
        wheel_file("lpips", "vgg.pth")
    with pytest.raises(WeightsError, match=r"pip install --no-deps dists-pytorch==0\.1"):
        wheel_file("DISTS_pytorch", "weights.pt")
