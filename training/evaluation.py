"""Figures on held-out faces: the input, the blind model, with references, and with a wrong person's references."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.metrics import structural_similarity
from torch import Tensor

from models.affine_landmark_distance import EYES, MOUTH, affine_landmark_distance
from models.aligned_face import to_network, whole_picture
from models.bundle import Bundle
from models.colour_fix import ColourFix
from models.errors import PictureError
from models.face_restorer import FaceJob, FaceRestorer, Options, Prepared
from models.honesty_report import honesty_report
from models.picture import Picture
from models.references import Reference
from training.degradation import PRESETS, degrade
from training.faces import Faces
from training.feature_distance import VGG16FeatureDistance
from training.images import psnr, to_picture
from training.restoration_data import aligned_face

Pixels = NDArray[np.uint8]
ROWS = ("input", "blind", "references", "wrong references")


@dataclass
class Evaluation:
    """Mean figures `row -> column -> value`, shares of references flagged as somebody else, pictures to look at."""

    figures: dict[str, dict[str, float]]
    flagged_right: float
    flagged_wrong: float
    undecided: float
    faces: int
    sheet: list[list[Pixels]] = field(default_factory=list)

    def markdown(self) -> str:
        """The table, and the flags in a line below it."""
        columns = list(self.figures["input"])
        lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
        for row, values in self.figures.items():
            lines.append(f"| {row} | " + " | ".join(f"{values[column]:.3f}" for column in columns) + " |")
        flags = (
            f"\n{self.faces} faces with references. Flagged as another person: {self.flagged_right:.1%} of right, "
            f"{self.flagged_wrong:.1%} of wrong references; left open: {self.undecided:.1%}."
        )
        return "\n".join(lines) + "\n" + flags

    def csv(self) -> str:
        columns = list(self.figures["input"])
        rows = [",".join([row, *(f"{values[c]:.6g}" for c in columns)]) for row, values in self.figures.items()]
        return "\n".join([",".join(["row", *columns]), *rows]) + "\n"


def evaluate(
    bundle: Bundle, faces: Faces, preset: str, count: int, vgg16: Path | None, color_fix: ColourFix = "wavelet"
) -> Evaluation:
    """Restore up to `count` faces of people with other pictures; a face's place in the list seeds its degradation."""
    restorer = FaceRestorer(bundle.generator, bundle.analyzer)
    features = VGG16FeatureDistance(vgg16, layers=(2, 7, 14)) if vgg16 else None
    targets = [index for index in faces.targets if faces.others(index)][:count]
    sums: dict[str, list[dict[str, float]]] = {row: [] for row in ROWS}
    right: list[bool | None] = []
    wrong: list[bool | None] = []
    sheet = []
    options = Options(faces="aligned", color_fix=color_fix, diagnostics="none")
    for place, index in enumerate(targets):
        truth, marks = aligned_face(faces, index)
        lq = degrade(truth, PRESETS[preset], np.random.default_rng((7, place)))
        own = [_reference(bundle, faces, other) for other in faces.others(index)[:2]]
        others = [_reference(bundle, faces, _stranger(faces, targets, place))]
        picture = Picture(lq)
        prepared = Prepared(picture, (whole_picture(bundle.analyzer, lq),))
        results = {"input": lq}
        for row, references in (("blind", []), ("references", own), ("wrong references", others)):
            jobs = (FaceJob(prepared.faces[0], tuple(references)),)
            crop = restorer.finish(prepared, jobs, restorer.generate(jobs), options).faces[0].crop
            results[row] = crop
            if references:
                report = honesty_report(bundle.analyzer, prepared.faces[0], crop, references)
                flags = [reference.wrong_person for reference in report.references]
                (right if row == "references" else wrong).extend(flags)
        for row, crop in results.items():
            sums[row].append(_figures(bundle, crop, truth, torch.from_numpy(marks), features))
        if place < 8:
            shown = to_picture(own[0].image)
            sheet.append([results["input"], results["blind"], results["references"], shown, truth])
    means = {row: {k: float(np.mean([v[k] for v in values])) for k in values[0]} for row, values in sums.items()}
    decided = [flag for flag in (*right, *wrong) if flag is not None]
    return Evaluation(
        figures=means,
        flagged_right=float(np.mean([flag is True for flag in right])),
        flagged_wrong=float(np.mean([flag is True for flag in wrong])),
        undecided=1 - len(decided) / max(1, len(right) + len(wrong)),
        faces=len(targets),
        sheet=sheet,
    )


def save_sheet(rows: Sequence[Sequence[Pixels]], path: Path, side: int = 256) -> None:
    """A picture of rows of faces: input, blind, with references, a reference, truth."""
    tiles = [
        np.concatenate([np.asarray(Image.fromarray(p).resize((side, side), Image.Resampling.BOX)) for p in row], axis=1)
        for row in rows
    ]
    Image.fromarray(np.concatenate(tiles)).save(path)


def _stranger(faces: Faces, targets: Sequence[int], place: int) -> int:
    """A target half the list further on, or the next that shows another person."""
    start = place + len(targets) // 2
    for step in range(len(targets)):
        other = targets[(start + step) % len(targets)]
        if faces.files[other].identity != faces.files[targets[place]].identity:
            return other
    raise PictureError("wrong references need pictures of at least two people")


@torch.inference_mode()
def _figures(
    bundle: Bundle, crop: Pixels, truth: Pixels, marks: Tensor, features: VGG16FeatureDistance | None
) -> dict[str, float]:
    restored, target = to_network([crop]), to_network([truth])
    found = bundle.analyzer.landmark_detector.landmarks(restored).points[0].double()
    encoder = bundle.analyzer.identity_encoder
    cosine = float((encoder.embed(restored) * encoder.embed(target)).sum().clamp(-1, 1))
    figures = {
        "PSNR": float(psnr(restored, target)[0]),
        "SSIM": float(structural_similarity(crop, truth, channel_axis=2)),  # type: ignore[no-untyped-call]
        "Deg. (embedded)": math.degrees(math.acos(cosine)),
        "L2-LD (68)": float((found - marks).norm(dim=-1).mean()),
        "ALD-e": float(affine_landmark_distance(found[list(EYES)], marks.double()[list(EYES)])),
        "ALD-m": float(affine_landmark_distance(found[list(MOUTH)], marks.double()[list(MOUTH)])),
    }
    if features is not None:
        figures["VGG16 features"] = float(features(restored, target))
    return figures


@torch.inference_mode()
def _reference(bundle: Bundle, faces: Faces, index: int) -> Reference:
    face = whole_picture(bundle.analyzer, aligned_face(faces, index)[0])
    return Reference(to_network([face.crop])[0], face.landmarks, face.identity)
