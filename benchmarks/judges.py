"""Judges a bundle with networks that you bring, most of which it never learned from: the model card's other figures.

    python -m benchmarks.judges --data data/faces --teachers teachers --real-lq data/real_lq --preset vqfr-v2 --count 40

Prints one Markdown table a topic. `--teachers` is a folder of files that are no part of this project; what needs a file
that is not there says "not measured":

    dlib_torch/face_recognition_model-weights_manifest.json  dlib's face descriptor (CC0) as face-api.js has it (MIT)
    openseeface_lm0/lm0.onnx                                 OpenSeeFace's lm_model0_opt.onnx (BSD-2-Clause)
    sface/sface_fixed.onnx                                   OpenCV Zoo's SFace (Apache-2.0)
    vgg16/vgg16_features_bgr_caffe_fp16.pt                   Oxford's VGG16 (CC BY 4.0), torchvision's key names

dlib's and OpenSeeFace's taught nothing here; SFace is the identity encoder's teacher, VGG16 is in the losses. Faces,
degradations and references are those of `honestface evaluate`; nothing is downloaded.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.arguments import at_least_one
from benchmarks.dlib_descriptor import DlibDescriptor
from benchmarks.judged_faces import RealPair, restored_faces, restored_pairs, small_pictures
from benchmarks.openseeface import EYES, MOUTH, OF_68, OpenSeeFace
from models.affine_landmark_distance import affine_landmark_distance
from models.aligned_face import to_network
from models.bundle import Bundle, load_bundle
from models.errors import HonestFaceError, PictureError
from models.face_analyzer import IdentityEncoder
from models.geometry import ALIGNED_SIZE, Pixels, enlargement, transform_points
from training.degradation import PRESETS, degrade
from training.faces import Faces, load_faces
from training.feature_distance import VGG16FeatureDistance
from training.metrics import Figures
from training.onnx_recogniser import OnnxRecogniser, RecogniserConfig
from training.stages.landmarks import EIGHT_TIMES
from training.verification import verify

TOPICS = ("restored", "real", "verification", "landmarks")
NOT_MEASURED = "not measured"
ANGLE, DISTANCES, DETAIL, FEATURES = "angle", ("L2-LD (66)", "ALD-e", "ALD-m"), "detail", "VGG16 features"
#: Detail is what is finer than so many pixels, in the middle of an aligned face.
_FINER, _MIDDLE = 9, slice(128, 384)
#: Degradations that identities are verified on, and what their draws are seeded with beside picture and draw.
_VERIFIED, _DRAWS = {"vqfr-v1": 7, "vqfr-v2": 8}, 3


@dataclass(frozen=True)
class Table:
    """Figures by row and column (None: not measured), under a title, and in `about` what they are of."""

    title: str
    about: str
    columns: Sequence[str]
    rows: Mapping[str, Sequence[float | None]]

    def markdown(self) -> str:
        lines = [
            f"**{self.title}**",
            "",
            "| | " + " | ".join(self.columns) + " |",
            "|---" * (len(self.columns) + 1) + "|",
        ]
        for row, values in self.rows.items():
            cells = (NOT_MEASURED if value is None else f"{value:.4g}" for value in values)
            lines.append(f"| {row} | " + " | ".join(cells) + " |")
        return "\n".join([*lines, "", self.about, ""])


@dataclass(frozen=True)
class Judges:
    """The networks at hand; None where there is no file."""

    dlib: DlibDescriptor | None = None
    openseeface: OpenSeeFace | None = None
    sface: IdentityEncoder | None = None
    vgg16: VGG16FeatureDistance | None = None

    @classmethod
    def of_folder(cls, folder: Path) -> "Judges":
        """Those whose files the folder has.

        Raises:
            HonestFaceError: there is no such folder, or a file is not what its name says.
        """
        if not folder.is_dir():
            raise HonestFaceError(f"--teachers {folder} is no folder")
        manifest, points, recogniser, features = (
            path if path.exists() else None
            for path in (
                folder / "dlib_torch" / "face_recognition_model-weights_manifest.json",
                folder / "openseeface_lm0" / "lm0.onnx",
                folder / "sface" / "sface_fixed.onnx",
                folder / "vgg16" / "vgg16_features_bgr_caffe_fp16.pt",
            )
        )
        return cls(
            dlib=DlibDescriptor(manifest) if manifest else None,
            openseeface=OpenSeeFace(points) if points else None,
            sface=OnnxRecogniser(RecogniserConfig(path=recogniser, mean=0, std=1)) if recogniser else None,
            vgg16=VGG16FeatureDistance(features, layers=(2, 7, 14)) if features else None,
        )

    @torch.inference_mode()
    def figures(self, crops: Mapping[str, Pixels], truth: Pixels) -> dict[str, Figures]:
        """What dlib's and OpenSeeFace's networks and a ruler say of each of `crops`, all `[512, 512, 3]`."""
        found: dict[str, Figures] = {row: {ANGLE: self.angle(crop, truth)} for row, crop in crops.items()}
        box = self.openseeface.box(truth) if self.openseeface else None
        marks = self.openseeface.points(truth, box) if self.openseeface else None
        for row, crop in crops.items():
            if self.openseeface and marks is not None:
                points = self.openseeface.points(crop, box)
                eyes, mouth = (
                    float(affine_landmark_distance(points[list(part)], marks[list(part)])) for part in (EYES, MOUTH)
                )
                found[row] |= dict(
                    zip(DISTANCES, (float((points - marks).norm(dim=1).mean()), eyes, mouth), strict=True)
                )
            else:
                found[row] |= dict.fromkeys(DISTANCES)
            found[row][DETAIL] = fine_detail(crop) / max(fine_detail(truth), 1e-9)
        return found

    def angle(self, crop: Pixels, truth: Pixels) -> float | None:
        return self.dlib.angle(crop, truth) if self.dlib else None

    @torch.inference_mode()
    def features(self, crop: Pixels, truth: Pixels) -> float | None:
        return float(self.vgg16(to_network([crop]), to_network([truth]))) if self.vgg16 else None


def fine_detail(face: Pixels) -> float:
    """The deviation in grey levels of what is finer than 9 px in the middle 256 px of an aligned face: the mean of the
    three colours less its mean over 9 x 9 px."""
    rim = _FINER // 2
    around = slice(_MIDDLE.start - rim, _MIDDLE.stop + rim)
    grey = torch.from_numpy(face[around, around].astype(np.float32)).mean(2)
    smooth = F.avg_pool2d(grey[None, None], _FINER, 1)[0, 0]
    return float((grey[rim:-rim, rim:-rim] - smooth).std())


def judge_restored(
    bundle: Bundle, faces: Faces, preset: str, count: int, judges: Judges, device: str = "cpu"
) -> list[Table]:
    """Identity, landmarks and detail of up to `count` held-out faces.

    Raises:
        PictureError: as `training.evaluation.evaluate`.
    """
    found: dict[str, list[Figures]] = {}
    for truth, crops in restored_faces(bundle, faces, preset, count, device):
        for row, figures in judges.figures(crops, truth).items():
            found.setdefault(row, []).append(figures)
    if not found:
        raise PictureError("nobody has two pictures, of which one is sharp enough to be the truth")
    about = f"{len(found['input'])} faces, {preset}, wavelet colour fix."

    def table(title: str, columns: Sequence[str], said: str) -> Table:
        rows = {row: [_mean([f[c] for f in figures]) for c in columns] for row, figures in found.items()}
        return Table(title, f"{about} {said}", columns, rows)

    return [
        table("Identity angle to the truth by dlib's descriptor", [ANGLE], "Degrees."),
        table("Landmarks by OpenSeeFace's network", DISTANCES, "Pixels; squared pixels, summed. One network in both."),
        table("Fine detail", [DETAIL], f"Deviation of what is finer than {_FINER} px, as a share of the photograph's."),
    ]


def judge_real(pairs: Iterator[RealPair], judges: Judges) -> Table:
    """Distances of really small pictures, before and after, to the photograph of the same shot."""
    found: list[dict[str, tuple[float | None, float | None]]] = [
        {row: (judges.features(crop, pair.truth), judges.angle(crop, pair.truth)) for row, crop in pair.rows.items()}
        for pair in pairs
    ]
    guided = [each for each in found if "references" in each]
    rows: dict[str, Sequence[float | None]] = {}
    for said, some, names in (
        ("pairs", found, ("input", "blind")),
        ("with references", guided, ("input", "blind", "references")),
    ):
        for name in names if some else ():
            rows[f"{len(some)} {said}: {name}"] = [
                _mean(column) for column in zip(*(each[name] for each in some), strict=True)
            ]
    about = (
        "Held-out people's small JPEGs, put onto the photograph of the same shot by landmarks; the angle in degrees."
    )
    return Table(
        "Really small pictures", about, [FEATURES, f"dlib's {ANGLE}"], rows or {"no pairs given": [None, None]}
    )


@torch.inference_mode()
def judge_verification(bundle: Bundle, faces: Faces, judges: Judges, most: int | None = None) -> Table:
    """The embedded identity encoder beside its teacher on pairs of held-out pictures, one degraded, one clean."""
    own = bundle.analyzer.identity_encoder
    encoders = {own.name.split(" ")[0]: own, "SFace": judges.sface}
    known = {name: encoder for name, encoder in encoders.items() if encoder is not None}
    people = [file.identity for file in faces.files][:most]
    gallery = _embeddings(known, faces, len(people))
    found = {(name, "clean"): [_verified(clean, clean, people)] for name, clean in gallery.items()}
    for preset in _VERIFIED:
        for draw in range(_DRAWS):
            for name, probes in _embeddings(known, faces, len(people), preset, draw).items():
                found.setdefault((name, preset), []).append(_verified(probes, gallery[name], people))
    rows: dict[str, Sequence[float | None]] = {
        f"{name}, {seen}": [_mean(column) for column in zip(*found[name, seen], strict=True)]
        if name in known
        else [None] * 3
        for name in encoders
        for seen in ("clean", *_VERIFIED)
    }
    about = (
        f"{len(people)} held-out pictures, all pairs of a clean one and another; {_DRAWS} draws of each degradation."
    )
    columns = ["AUC", "accepted at 0.1 % false accepts, %", "right ones lost at 5 % wrong, %"]
    return Table("Identity verification", about, columns, rows)


def _embeddings(
    encoders: Mapping[str, IdentityEncoder], faces: Faces, count: int, preset: str | None = None, draw: int = 0
) -> dict[str, Tensor]:
    """By each encoder `[count, d]` of the first faces, degraded if a preset is given."""
    found: dict[str, list[Tensor]] = {name: [] for name in encoders}
    for index in range(count):
        picture = faces.enlarged(index)
        if preset is not None:
            picture = degrade(picture, PRESETS[preset], np.random.default_rng((index, draw, _VERIFIED[preset])))
        for name, encoder in encoders.items():
            found[name].append(encoder.embed(to_network([picture])).cpu())
    return {name: torch.cat(rows) for name, rows in found.items()}


def _verified(probes: Tensor, gallery: Tensor, people: Sequence[str]) -> list[float | None]:
    """AUC, and in per cent right pairs accepted at 0.1 % false accepts and lost at 5 %; None without pairs."""
    found = verify(probes, gallery, people)
    same = torch.tensor([[one == other for other in people] for one in people]) & ~torch.eye(
        len(people), dtype=torch.bool
    )
    lost = (probes @ gallery.T)[same] < math.cos(math.radians(found.angle))
    figures = found.auc, 100 * found.true_accepts, 100 * float(lost.float().mean())
    return [None if math.isnan(figure) else figure for figure in figures]


@torch.inference_mode()
def judge_landmarks(bundle: Bundle, faces: Faces, judges: Judges, most: int | None = None) -> Table:
    """How far landmarks lie from the data's labels: the bundle's network and OpenSeeFace's, clean and degraded."""
    detector, other = bundle.analyzer.landmark_detector, judges.openseeface
    chosen = [index for index in faces.targets if faces.files[index].landmarks is not None][::2][:most]
    errors: dict[str, list[list[float]]] = {"embedded, 68 points": [[], []], "OpenSeeFace, 66 points": [[], []]}
    for index in chosen:
        labels = faces.files[index].landmarks
        assert labels is not None
        factor = ALIGNED_SIZE / faces.pixels(index).shape[0]
        truth = torch.from_numpy(transform_points(enlargement(factor), labels))
        clean = faces.enlarged(index)
        for column, picture in enumerate((clean, degrade(clean, EIGHT_TIMES, np.random.default_rng(index)))):
            found = {"embedded, 68 points": (detector.landmarks(to_network([picture])).points[0].cpu().double(), truth)}
            if other is not None:
                found["OpenSeeFace, 66 points"] = (other.points(picture), truth[list(OF_68)])
            for row, (points, wanted) in found.items():
                between = (truth[36] - truth[45]).norm()
                errors[row][column].append(100 * float((points - wanted).norm(dim=1).mean() / between))
    rows = {row: [_mean(column) if column else None for column in columns] for row, columns in errors.items()}
    about = f"{len(chosen)} held-out faces; mean distance to the data's labels over that of the eyes' outer corners."
    return Table("Landmark error, % of the eye distance", about, ["clean", "8 times smaller"], rows)


def _mean(values: Sequence[float | None]) -> float | None:
    """None where one was not measured."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def judge(bundle: Bundle, faces: Faces, judges: Judges, options: argparse.Namespace) -> Iterator[Table]:
    """The tables of the chosen topics, each as soon as it is measured."""
    if "restored" in options.topics:
        yield from judge_restored(bundle, faces, options.preset, options.count, judges, options.device)
    if "real" in options.topics:
        pairs: Iterator[RealPair] = iter(())
        if options.real_lq:
            pairs = restored_pairs(bundle, faces, small_pictures(options.real_lq, faces, options.split), options.device)
        yield judge_real(pairs, judges)
    if "verification" in options.topics:
        yield judge_verification(bundle, faces, judges, options.pictures)
    if "landmarks" in options.topics:
        yield judge_landmarks(bundle, faces, judges, options.pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="aligned faces: index.csv, or a folder per person")
    parser.add_argument("--real-lq", type=Path, help="small pictures of the same shots (benchmarks.judged_faces)")
    parser.add_argument("--teachers", type=Path, required=True, help="folder of the judges' files")
    parser.add_argument("--bundle", type=Path, help="the embedded one by default")
    parser.add_argument("--split", default="val")
    parser.add_argument(
        "--preset", default="vqfr-v2", choices=sorted(PRESETS), help="degradation of the restored faces"
    )
    parser.add_argument("--count", type=at_least_one, default=40, help="restored faces at most")
    parser.add_argument(
        "--pictures", type=at_least_one, help="pictures at most for verification and landmarks; all by default"
    )
    parser.add_argument("--topics", nargs="+", default=TOPICS, choices=TOPICS)
    parser.add_argument("--device", default="cpu", help="where the generator runs")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    for path in filter(None, (options.json, options.markdown)):  # what fails must fail before anything is measured
        if not path.parent.is_dir():
            parser.error(f"{path.parent} is no folder")
    try:
        judges = Judges.of_folder(options.teachers)
        bundle = load_bundle(options.bundle, options.device)
        tables = []
        for table in judge(bundle, load_faces(options.data, options.split), judges, options):
            print(table.markdown(), flush=True)
            tables.append(table)
    except HonestFaceError as error:
        sys.exit(str(error))
    if options.markdown:
        options.markdown.write_text("\n".join(table.markdown() for table in tables))
    if options.json:
        name = f"{bundle.manifest.name} {bundle.manifest.version}"
        found = {"bundle": name, "preset": options.preset, "tables": [asdict(table) for table in tables]}
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
