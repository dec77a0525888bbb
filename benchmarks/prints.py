"""The picture of damaged prints in the README: scikit-image's astronaut (NASA), before above after, without references.

    python -m benchmarks.prints [--out docs/prints.jpg] [--bundle DIR]

Needs scikit-image (the extra `demo`).
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage.data import astronaut

from models.bundle import load_bundle
from models.face_restorer import FaceRestorer, Options
from models.geometry import Pixels
from models.picture import Picture
from training.images import to_image
from training.print_damage import grain, halftone

ENLARGED, HEAD, SHOWN = 1536, (370, 60, 1000, 690), 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/prints.jpg"))
    parser.add_argument("--bundle", type=Path, help="bundle folder; none: the embedded one")
    arguments = parser.parse_args()
    bundle = load_bundle(arguments.bundle)
    restorer = FaceRestorer(bundle.generator, bundle.analyzer)
    columns = []
    for print_ in damaged(Image.fromarray(astronaut()).resize((ENLARGED, ENLARGED), Image.Resampling.LANCZOS)):
        with torch.inference_mode():
            restored = restorer.restore(Picture(print_), (), Options(diagnostics="none")).picture.pixels
        columns.append(np.concatenate([head(print_), head(restored)]))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(columns, axis=1)).save(arguments.out, quality=85)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1000:.0f} kB")


def damaged(photo: Image.Image) -> list[Pixels]:
    """With film's grain of 40 levels, with grain of each colour, as of little light, and in dots of 6 px."""
    image = to_image(np.asarray(photo))[None] / 2 + 0.5
    rng = np.random.default_rng(5)
    prints = grain(image, 40 / 255, True, rng), grain(image, 40 / 255, False, rng), halftone(image, 6.0, True, rng)
    return [(print_[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy() for print_ in prints]


def head(pixels: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(pixels).crop(HEAD).resize((SHOWN, SHOWN), Image.Resampling.LANCZOS))


if __name__ == "__main__":
    main()
