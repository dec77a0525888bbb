"""Puts the components of finished runs together as a bundle."""

import json
from pathlib import Path

from safetensors.torch import load_file

from models.bundle import Manifest, save_bundle
from models.embedded_face_tools import FaceToolsConfig
from models.errors import WeightsError
from models.profiles import TINY

GENERATOR = ("vae", "unet", "vre", "identity_embedder", "reference_adapter", "position_map")
FACE_TOOLS = ("detector", "landmarks", "identity")

LICENCE = "Apache-2.0 (weights trained by the HonestFace project)"
PROVENANCE = (
    "Trained from random weights by `honestface train` with the settings in training/configs. The identity encoder "
    "learned from SFace's embeddings (OpenCV Zoo, Apache-2.0) of the training pictures, and the identity loss used "
    "SFace beside it; perceptual losses used VGG16 features. Neither is part of the bundle."
)
TRAINING_DATA = (
    "Official portraits of US members of Congress and governors (federal works, public domain)",
    "Presidential Innovation Fellows website portraits (CC0 1.0)",
    "Face Research Lab London set, 3DSK and Canada sets by DeBruine & Jones (CC BY 4.0, "
    "doi 10.6084/m9.figshare.5047666.v5, OSF A3947, doi 10.6084/m9.figshare.4220517.v1)",
    "faker-js/assets-person-portrait (CC0 1.0, synthetic people)",
)


def pack(runs: Path, out: Path, version: str, matching_angle: float, metrics: Path | None) -> Manifest:
    """Write the tiny bundle, in half precision, from the `honestface`, `detector`, `landmarks` and `identity` runs.

    Raises:
        WeightsError: a run has not exported its component yet.
    """
    files = {name: runs / "honestface" / f"{name}.safetensors" for name in GENERATOR}
    files |= {name: runs / name / f"{name}.safetensors" for name in FACE_TOOLS}
    for path in files.values():
        if not path.is_file():
            raise WeightsError(f"{path} is missing: train that stage first")
    manifest = {
        "name": "honestface-tiny",
        "version": version,
        "profile": "tiny",
        "generator": TINY,
        "face_tools": FaceToolsConfig(),
        "matching_angle": matching_angle,
        "licence": LICENCE,
        "provenance": PROVENANCE,
        "training_data": list(TRAINING_DATA),
        "metrics": json.loads(metrics.read_text()) if metrics else {},
    }
    return save_bundle(out, manifest, {name: load_file(path) for name, path in files.items()})
