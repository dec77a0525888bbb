"""The paper's measures of a restored face (4.1), each under the name of the network behind it, or not measured."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from models.affine_landmark_distance import EYES, MOUTH, affine_landmark_distance
from models.aligned_face import to_network
from models.colour_shift import colour_shift
from models.errors import HonestFaceError
from models.face_analyzer import FaceAnalyzer
from models.geometry import Pixels
from training.dists import DISTS
from training.feature_distance import VGG16FeatureDistance
from training.images import psnr
from training.lpips import LPIPS

#: A figure, or None where it was not measured.
Figures = dict[str, float | None]

#: Column and pyiqa's name; the first three look at one picture, the last compares two.
PYIQA = {"CLIP-IQA": "clipiqa", "MANIQA (KonIQ)": "maniqa", "MUSIQ": "musiq", "MS-SWD": "msswd"}
WITH_TRUTH = ("MS-SWD",)


@dataclass(frozen=True)
class MetricFiles:
    """What a user has of the networks that are not part of the project; without it a column is not measured.

    `vgg16`: Caffe order, for the project's own feature distance. `lpips_alexnet` and `dists_vgg16`: torchvision's.
    `pyiqa` (a package of its own, not for commercial use) brings the rest and downloads their weights.
    """

    vgg16: Path | None = None
    lpips_alexnet: Path | None = None
    dists_vgg16: Path | None = None
    pyiqa: bool = False


class Metrics:
    """Measures restored faces against the truth, both `[512, 512, 3]` uint8; networks run on `device`."""

    def __init__(self, analyzer: FaceAnalyzer, files: MetricFiles, device: torch.device | str = "cpu") -> None:
        self.analyzer, self.device = analyzer, torch.device(device)
        self.pairs: dict[str, nn.Module | None] = {
            "LPIPS (alex)": LPIPS("alex", files.lpips_alexnet).to(self.device) if files.lpips_alexnet else None,
            "DISTS": DISTS(files.dists_vgg16).to(self.device) if files.dists_vgg16 else None,
        }
        self.vgg16 = VGG16FeatureDistance(files.vgg16, layers=(2, 7, 14)).to(self.device) if files.vgg16 else None
        package = _pyiqa() if files.pyiqa else None
        self.others: dict[str, Callable[..., Any] | None] = {
            column: package.create_metric(name, device=self.device) if package else None
            for column, name in PYIQA.items()
        }
        self._fid: Callable[..., Any] | None = package.create_metric("fid", device=self.device) if package else None

    @torch.inference_mode()
    def figures(self, crops: Mapping[str, Pixels], truth: Pixels) -> dict[str, Figures]:
        """All columns but FID, of each crop by its name; what the networks see in the truth is looked at once.

        L2-LD and A-LD are in pixels, between what one landmark network finds in both pictures: labels by another
        network would add what the two disagree about, which is most of it (docs/adr/015)."""
        target = to_network([truth])
        marks, person = self._points(target), self.analyzer.identity_encoder.embed(target)
        features = None if self.vgg16 is None else self.vgg16.activations(target.to(self.device))
        found = {}
        for name, crop in crops.items():
            restored = to_network([crop])
            points = self._points(restored)
            cosine = float((self.analyzer.identity_encoder.embed(restored) * person).sum().clamp(-1, 1))
            found[name] = {
                "PSNR": float(psnr(restored, target)[0]),
                "SSIM": float(structural_similarity(crop, truth, channel_axis=2)),  # type: ignore[no-untyped-call]
                **self._distances(restored.to(self.device), target.to(self.device), features),
                f"Deg. ({re.split('[ ,]', self.analyzer.identity_encoder.name)[0]})": math.degrees(math.acos(cosine)),
                "L2-LD (68)": float((points - marks).norm(dim=-1).mean()),
                "ALD-e": float(affine_landmark_distance(points[list(EYES)], marks[list(EYES)])),
                "ALD-m": float(affine_landmark_distance(points[list(MOUTH)], marks[list(MOUTH)])),
                "colour shift (own)": colour_shift(restored[0], target[0]),
            }
        return found

    def _points(self, image: Tensor) -> Tensor:
        """The 68 landmarks of one picture, `[68, 2]`, float64 as Eq. 15 wants them."""
        return self.analyzer.landmark_detector.landmarks(image).points[0].double()

    def _distances(self, restored: Tensor, target: Tensor, features: Sequence[Tensor] | None) -> Figures:
        """The columns by networks of the user's; `features` are the truth's for the VGG16 distance."""
        figures: Figures = {name: None if d is None else float(d(restored, target)) for name, d in self.pairs.items()}
        if self.vgg16 is not None and features is not None:
            figures["VGG16 features"] = float(self.vgg16.between(self.vgg16.activations(restored), features))
        unit = [(image + 1) / 2 for image in (restored, target)]
        for column, metric in self.others.items():
            arguments = unit if column in WITH_TRUTH else unit[:1]
            figures[column] = None if metric is None else float(metric(*arguments))
        return figures

    def fid(self, restored: Path, truth: Path) -> float | None:
        """Of two folders of pictures, or None without pyiqa."""
        return None if self._fid is None else float(self._fid(str(restored), str(truth)))


def _pyiqa() -> Any:
    try:
        import pyiqa  # type: ignore[import-not-found]
    except ImportError as error:
        raise HonestFaceError(f"pyiqa is needed ({error}): pip install 'honestface[metrics]'") from None
    return pyiqa
