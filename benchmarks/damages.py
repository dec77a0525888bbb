"""What a bundle does to faces with one thing wrong at a time, blind, beside other bundles: PSNR, and VGG16 distances.

    python -m benchmarks.damages --data data/faces [--bundle DIR ...] [--count 12] [--vgg16 FILE]

The faces are the first held-out sharp ones; every bundle (the embedded one by default) is shown the same pictures.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.arguments import at_least_one
from models.bundle import Bundle, load_bundle
from models.errors import HonestFaceError
from models.face_restorer import FaceRestorer, Options
from models.geometry import Pixels
from training.evaluation import restored_rows
from training.faces import Faces, load_faces
from training.feature_distance import VGG16FeatureDistance
from training.images import psnr, to_image, to_picture
from training.print_damage import grain, halftone, scratch

Damage = Callable[[Pixels, np.random.Generator], Pixels]


def as_it_is(picture: Pixels, rng: np.random.Generator) -> Pixels:
    return picture


def jpeg(quality: int) -> Damage:
    def compress(picture: Pixels, rng: np.random.Generator) -> Pixels:
        file = BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file))

    return compress


def on_print(damage: Callable[[torch.Tensor, np.random.Generator], torch.Tensor]) -> Damage:
    """One of `training.print_damage`, of images in 0..1, for pictures."""

    def draw(picture: Pixels, rng: np.random.Generator) -> Pixels:
        return to_picture(damage(to_image(picture)[None] / 2 + 0.5, rng)[0] * 2 - 1)

    return draw


def grains(levels: int, grey: bool) -> Damage:
    return on_print(lambda image, rng: grain(image, levels / 255, grey, rng))


def dots(period: float, grey: bool) -> Damage:
    return on_print(lambda image, rng: halftone(image, period, grey, rng))


#: Each of a 512 px face, and so as fine as its pixels allow.
DAMAGES: dict[str, Damage] = {
    "nothing": as_it_is,
    "JPEG of quality 50": jpeg(50),
    "grain of 30 levels, the same in all colours": grains(30, True),
    "grain of 40 levels, the same in all colours": grains(40, True),
    "grain of 60 levels, the same in all colours": grains(60, True),
    "grain of 30 levels, of each colour its own": grains(30, False),
    "grain of 40 levels, of each colour its own": grains(40, False),
    "grey dots of 4 px": dots(4.0, True),
    "coloured dots of 5 px": dots(5.0, False),
    "scratches and dust, twice": on_print(lambda image, rng: scratch(scratch(image, rng), rng)),
}


@torch.inference_mode()
def measure(
    bundles: Sequence[Bundle], faces: Faces, count: int, vgg16: VGG16FeatureDistance | None = None
) -> dict[str, list[list[float]]]:
    """By damage, for the input and then each bundle: mean PSNR in dB and, with `vgg16`, the mean distance.

    A face's place in the list and the damage's seed what is drawn. A face that equals the truth counts 106 dB.

    Raises:
        PictureError: none of the faces is sharp.
    """
    restorers = [FaceRestorer(bundle.generator, bundle.analyzer) for bundle in bundles]
    options = Options(faces="aligned", diagnostics="none")
    found = {}
    for number, (name, damage) in enumerate(DAMAGES.items()):
        rows = []
        for place, index in enumerate(faces.targets[:count]):
            truth = faces.enlarged(index)
            damaged = damage(truth, np.random.default_rng((number, place)))
            shown = [damaged]
            shown += [restored_rows(restorer, damaged, {"blind": ()}, options)[0]["blind"] for restorer in restorers]
            rows.append([_figures(picture, truth, vgg16) for picture in shown])
        found[name] = np.mean(rows, axis=0).tolist()
    return found


def _figures(picture: Pixels, truth: Pixels, vgg16: VGG16FeatureDistance | None) -> list[float]:
    one, other = to_image(picture)[None], to_image(truth)[None]
    return [float(psnr(one, other)), *([float(vgg16(one, other))] if vgg16 else [])]


def markdown(names: Sequence[str], found: dict[str, list[list[float]]]) -> str:
    lines = ["| | " + " | ".join(["input", *names]) + " |", "|---" * (len(names) + 2) + "|"]
    for damage, columns in found.items():
        cells = (", ".join(f"{figure:.2f}" for figure in figures) for figures in columns)
        lines.append(f"| {damage} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="aligned faces: index.csv, or a folder per person")
    parser.add_argument(
        "--bundle", type=Path, action="append", help="bundle folder; repeatable; none: the embedded one"
    )
    parser.add_argument("--count", type=at_least_one, default=12, help="faces at most")
    parser.add_argument("--vgg16", type=Path, help="VGG16 features (Caffe order), for the feature distance")
    options = parser.parse_args()
    try:
        bundles = [load_bundle(folder) for folder in options.bundle or [None]]
        vgg16 = VGG16FeatureDistance(options.vgg16, layers=(2, 7, 14)) if options.vgg16 else None
        faces = load_faces(options.data, "val")
        found = measure(bundles, faces, options.count, vgg16)
    except HonestFaceError as error:
        sys.exit(str(error))
    names = [f"{bundle.manifest.name} {bundle.manifest.version}" for bundle in bundles]
    print(markdown(names, found))
    said = "PSNR in dB" + (", VGG16 distance" if vgg16 else "")
    print(f"\n{said}; faces: {min(options.count, len(faces.targets))}, blind, wavelet colour fix.")


if __name__ == "__main__":
    main()
