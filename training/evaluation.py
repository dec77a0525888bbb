"""Figures on held-out faces: the input, Lanczos, the blind model, with references, with a wrong person's references."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from models.aligned_face import to_network, whole_picture
from models.bundle import Bundle
from models.choices import ColourFix
from models.errors import PictureError
from models.face_restorer import FaceJob, FaceRestorer, Options, Prepared
from models.geometry import Pixels
from models.honesty_report import honesty_report
from models.picture import Picture
from models.references import Reference
from models.runtime import try_device
from training.degradation import PRESETS, degrade
from training.faces import Faces
from training.images import to_picture
from training.metrics import Figures, MetricFiles, Metrics

ROWS = ("input", "lanczos", "blind", "references", "wrong references")


@dataclass
class Evaluation:
    """Mean figures `row -> column -> value` (None: not measured), for each row the standard error of its difference
    from the input's, shares of references flagged as somebody else, how many each of the `faces`, degraded `draws`
    times, had at most, pictures to look at."""

    figures: dict[str, Figures]
    errors: dict[str, Figures]
    flagged_right: float | None
    flagged_wrong: float | None
    undecided: float
    faces: int
    draws: int
    references: int
    sheet: list[list[Pixels]] = field(default_factory=list)

    def markdown(self) -> str:
        """The table of what was measured, and in lines below it what was not, and the flags."""
        columns = [name for name, value in self.figures["input"].items() if value is not None]
        missing = [name for name, value in self.figures["input"].items() if value is None]
        lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
        for row, values in self.figures.items():
            lines.append(f"| {row} | " + " | ".join(f"{values[column]:.3f}" for column in columns) + " |")
        if missing:
            lines.append(f"\nNot measured: {', '.join(missing)}.")
        best = "references" if "references" in self.figures else "blind"
        errors = [f"{name} {error:.2g}" for name, error in self.errors[best].items() if error is not None]
        if errors:
            lines.append(f"\nStandard errors, row {best} less row input: {', '.join(errors)}.")
        draws = [f"each degraded {self.draws} times"] if self.draws > 1 else []
        if self.flagged_right is None or self.flagged_wrong is None:
            lines.append(f"\n{', '.join([f'{self.faces} faces', *draws])}. This bundle takes no references.")
        else:
            own = f"with references, at most {self.references} of a person's own"
            lines.append(
                f"\n{', '.join([f'{self.faces} faces {own}', *draws])}. "
                f"Flagged as another person: {self.flagged_right:.1%} of right, {self.flagged_wrong:.1%} of wrong "
                f"references; left open: {self.undecided:.1%}."
            )
        return "\n".join(lines)

    def csv(self) -> str:
        columns = list(self.figures["input"])
        rows = [
            [row, *("not measured" if v is None else f"{v:.6g}" for v in f.values())] for row, f in self.figures.items()
        ]
        return "\n".join(",".join(line) for line in [["row", *columns], *rows]) + "\n"

    def json(self, command: str) -> str:
        """What was measured, for a bundle's manifest (`honestface pack --metrics`), and by which command."""
        rows = {
            row: {name: round(value, 3) for name, value in values.items() if value is not None}
            for row, values in self.figures.items()
        }
        found: dict[str, object] = {"command": command, "faces": self.faces, "draws": self.draws, "figures": rows}
        if self.flagged_right is not None and self.flagged_wrong is not None:
            found["flagged"] = {"right": round(self.flagged_right, 4), "wrong": round(self.flagged_wrong, 4)}
        return json.dumps(found, indent=2) + "\n"


def make_ready(out: Path, device: str) -> None:
    """Makes the folder of the results and tries the device: what fails must fail before anything is measured.

    Raises:
        HonestFaceError: there is no such device.
        OSError: the folder cannot be made.
    """
    try_device(device)
    out.mkdir(parents=True, exist_ok=True)


def evaluate(
    bundle: Bundle,
    faces: Faces,
    preset: str,
    count: int,
    files: MetricFiles,
    color_fix: ColourFix = "wavelet",
    device: torch.device | str = "cpu",
    references: int = 2,
    draws: int = 1,
) -> Evaluation:
    """Restore up to `count` faces of people with other pictures, each degraded `draws` times; a face's place in the
    list and the number of the draw seed its degradation.

    The row references has up to that many of the person's other pictures, the row wrong references one of a stranger.
    A bundle that takes no references has the rows input, Lanczos and blind. No face stays as it is, as a few do in
    training under `wide`: an input that equals the truth would count 106 dB.

    Raises:
        PictureError: nobody has two pictures, or all faces show one person.
    """
    degradation = replace(PRESETS[preset], clean=0.0)
    restorer = FaceRestorer(bundle.generator, bundle.analyzer, device)
    metrics = Metrics(bundle.analyzer, files, device)
    targets = [index for index in faces.targets if faces.others(index)][:count]
    if not targets:
        raise PictureError("nobody has two pictures, of which one is sharp enough to be the truth")
    guided = bundle.generator.takes_references
    sums: dict[str, list[Figures]] = {row: [] for row in (ROWS if guided else ROWS[:3])}
    right: list[bool | None] = []
    wrong: list[bool | None] = []
    sheet = []
    options = Options(faces="aligned", color_fix=color_fix, diagnostics="none")
    with TemporaryDirectory() as temporary:
        pictures = Path(temporary)
        for place, index in enumerate(targets):
            truth = faces.enlarged(index)
            own = [reference_of(bundle, faces, other) for other in faces.others(index)[:references]]
            others = [reference_of(bundle, faces, stranger_of(faces, targets, place))] if guided else []
            given = {"blind": [], "references": own, "wrong references": others} if guided else {"blind": []}
            for draw in range(draws):
                seed = (7, place, draw) if draw else (7, place)
                lq, lanczos = (
                    degrade(truth, degradation, np.random.default_rng(seed), enlarge=enlarge)
                    for enlarge in (None, "lanczos")
                )
                restored, flags = restored_rows(restorer, lq, given, options)
                right += flags.get("references", [])
                wrong += flags.get("wrong references", [])
                results = {"input": lq, "lanczos": lanczos, **restored}
                for row, figures in metrics.figures(results, truth).items():
                    sums[row].append(figures)
                if files.pyiqa:  # FID compares folders
                    _save(results | {"truth": truth}, pictures, f"{place:05d}_{draw}.png")
                if place < 8 and not draw:
                    shown = [results["references"], to_picture(own[0].image)] if guided else []
                    sheet.append([results["input"], results["blind"], *shown, truth])
        means = {row: _means(values) for row, values in sums.items()}
        for row, figures in means.items():
            figures["FID"] = metrics.fid(pictures / row, pictures / "truth")
    decided = [flag for flag in (*right, *wrong) if flag is not None]
    return Evaluation(
        figures=means,
        errors={row: _errors(values, sums["input"], draws) for row, values in sums.items()},
        flagged_right=_share(right),
        flagged_wrong=_share(wrong),
        undecided=1 - len(decided) / max(1, len(right) + len(wrong)),
        faces=len(targets),
        draws=draws,
        references=references,
        sheet=sheet,
    )


def restored_rows(
    restorer: FaceRestorer, lq: Pixels, given: Mapping[str, Sequence[Reference]], options: Options
) -> tuple[dict[str, Pixels], dict[str, list[bool | None]]]:
    """An aligned face restored once for each row of `given`, which has that row's references, and for each reference
    of the rows that have any whether it was flagged as another person (None: left open)."""
    prepared = Prepared(Picture(lq), (whole_picture(restorer.analyzer, lq),))
    crops, flags = {}, {}
    for row, references in given.items():
        jobs = (FaceJob(prepared.faces[0], tuple(references)),)
        crops[row] = restorer.finish(prepared, jobs, restorer.generate(jobs), options).faces[0].crop
        if references:
            report = honesty_report(restorer.analyzer, prepared.faces[0], crops[row], references)
            flags[row] = [reference.wrong_person for reference in report.references]
    return crops, flags


def _save(crops: Mapping[str, Pixels], folder: Path, name: str) -> None:
    """Each crop as `folder/ROW/name`."""
    for row, crop in crops.items():
        (folder / row).mkdir(exist_ok=True)
        Image.fromarray(crop).save(folder / row / name)


def _share(flags: Sequence[bool | None]) -> float | None:
    """How many are flagged; None where there are none."""
    return float(np.mean([flag is True for flag in flags])) if flags else None


def _means(values: Sequence[Figures]) -> Figures:
    """The mean of each column; None stays None."""
    columns = {name: [figures[name] for figures in values] for name in values[0]}
    return {
        name: None if column[0] is None else float(np.mean([x for x in column if x is not None]))
        for name, column in columns.items()
    }


def _errors(values: Sequence[Figures], inputs: Sequence[Figures], draws: int) -> Figures:
    """The standard error of each column's mean difference from the input's; a face's draws, which lie together, are one
    observation. None where a column was not measured, or there is one face."""
    found: Figures = {}
    for name in values[0]:
        pairs = [(mine[name], its[name]) for mine, its in zip(values, inputs, strict=True)]
        differences = [a - b for a, b in pairs if a is not None and b is not None]
        faces = np.reshape(differences, (-1, draws)).mean(1)
        found[name] = float(faces.std(ddof=1) / len(faces) ** 0.5) if len(faces) > 1 else None
    return found


def stranger_of(faces: Faces, targets: Sequence[int], place: int) -> int:
    """A target half the list further on, or the next that shows another person; if none does, so among all faces."""
    who = faces.files[targets[place]].identity
    for others, here in ((targets, place), (range(len(faces.files)), targets[place])):
        start = here + len(others) // 2
        for step in range(len(others)):
            other = others[(start + step) % len(others)]
            if faces.files[other].identity != who:
                return other
    raise PictureError("wrong references need pictures of at least two people")


@torch.inference_mode()
def reference_of(bundle: Bundle, faces: Faces, index: int) -> Reference:
    face = whole_picture(bundle.analyzer, faces.enlarged(index))
    return Reference(to_network([face.crop])[0], face.landmarks, face.identity)
