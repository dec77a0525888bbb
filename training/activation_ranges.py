"""What comes into a bundle's convolutions on training faces, which int8 needs to know (docs/adr/027)."""

from collections.abc import Sequence

import numpy as np

from models.aligned_face import whole_picture
from models.bundle import Bundle
from models.eight_bits import measured_ranges
from models.errors import HonestFaceError
from models.face_restorer import FaceJob, FaceRestorer
from models.tiny_unet import TinyUNet
from training.degradation import PRESETS, degrade
from training.evaluation import reference_of
from training.faces import Faces

DIGITS = 4


def measure_activation_ranges(
    bundle: Bundle, faces: Faces, count: int, presets: Sequence[str] = tuple(PRESETS)
) -> dict[str, tuple[float, float]]:
    """Least and largest value at each convolution while `count` faces are restored, blind and, where the person has
    another picture, with it; the presets take turns, and a face's place in the list seeds its degradation.

    Raises:
        HonestFaceError: the bundle is not of the tiny profile's kind, which alone is run in int8.
    """
    if not isinstance(bundle.generator.unet, TinyUNet):
        raise HonestFaceError(f"{bundle.folder}: activation ranges are for bundles of the tiny profile")
    restorer = FaceRestorer(bundle.generator, bundle.analyzer)
    targets = faces.targets[:: max(1, len(faces.targets) // count)][:count]
    with measured_ranges(bundle.generator) as found:
        for place, index in enumerate(targets):
            degradation = PRESETS[presets[place % len(presets)]]
            lq = degrade(faces.enlarged(index), degradation, np.random.default_rng((9, place)))
            face = whole_picture(bundle.analyzer, lq)
            own = [reference_of(bundle, faces, other) for other in faces.others(index)[:1]]
            restorer.generate((FaceJob(face),))
            if own and bundle.generator.takes_references:
                restorer.generate((FaceJob(face, tuple(own)),))
    return {name: (float(f"{low:.{DIGITS}g}"), float(f"{high:.{DIGITS}g}")) for name, (low, high) in found.items()}
