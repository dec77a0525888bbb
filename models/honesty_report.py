"""The honesty report: how much of a restored face is backed by evidence."""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from models.affine_landmark_distance import EYES, MOUTH, affine_landmark_distance
from models.aligned_face import AlignedFace, to_network
from models.colour_shift import colour_shift
from models.face_analyzer import FaceAnalyzer
from models.facial_feature_extractor import reference_distances
from models.geometry import Pixels
from models.identity_angles import identity_angle, identity_angles
from models.references import Reference, References
from models.wrong_person import is_legible, used_references, wrong_person

Map = NDArray[np.float32]
Json = dict[str, object]


@dataclass(frozen=True)
class ReferenceEvidence:
    """One reference: A-LD to the input (Eq. 6, squared px at 512), identity angles in degrees, whether it shows another
    person than the input (None: the input cannot tell), whether the face was restored with it, and whether its picture
    says that a trained model made part of it: such a face is no evidence of how a person looks."""

    affine_landmark_distance: float
    angle_to_input: float
    angle_to_restored: float
    wrong_person: bool | None
    used: bool
    generated: bool


@dataclass(frozen=True, eq=False)
class HonestyReport:
    """What was measured on one face, all of it on the aligned 512 px crops, restored against input.

    A-LD of eyes and mouth in squared px (Eq. 14), `landmark_distance` (L2-LD) the mean distance of 68 points in px,
    angles in degrees, `colour_shift` in CIELAB units, `mean_change` and `change_map` `[512, 512]` in grey levels of
    255, `attention_map` `[h, w]` in 0..1 (Eq. 11, of the input). `chosen_reference` is the optimal used one (Eq. 6);
    `identity_legible` tells whether the input carries enough identity to compare it (see `models.wrong_person`).
    """

    references: tuple[ReferenceEvidence, ...]
    chosen_reference: int | None
    affine_landmark_distance_eyes: float
    affine_landmark_distance_mouth: float
    landmark_distance: float
    identity_angle: float
    identity_legible: bool
    colour_shift: float
    mean_change: float
    attention_map: Map
    change_map: Map
    landmark_network: str
    identity_network: str
    matching_angle: float

    def summary(self) -> Json:
        """A JSON-ready dictionary without the maps; each number with its unit and what made it."""
        points, identity = self.landmark_network, self.identity_network
        return {
            "chosen_reference": self.chosen_reference,
            "references": [
                {
                    "affine_landmark_distance": _number(one.affine_landmark_distance, "px^2 at 512 px", points),
                    "identity_angle_to_input": _number(one.angle_to_input, "degrees", identity),
                    "identity_angle_to_restored": _number(one.angle_to_restored, "degrees", identity),
                    "wrong_person": one.wrong_person,
                    "used": one.used,
                    "generated": one.generated,
                }
                for one in self.references
            ],
            "affine_landmark_distance_eyes": _number(self.affine_landmark_distance_eyes, "px^2 at 512 px", points),
            "affine_landmark_distance_mouth": _number(self.affine_landmark_distance_mouth, "px^2 at 512 px", points),
            "landmark_distance": _number(self.landmark_distance, "px at 512 px, mean of 68 points", points),
            "identity_angle": _number(self.identity_angle, "degrees", identity),
            "identity_matching_angle": _number(self.matching_angle, "degrees", identity),
            "identity_legible": self.identity_legible,
            "colour_shift": _number(self.colour_shift, "CIELAB", "sliced Wasserstein distance, stand-in for MS-SWD"),
            "mean_change": _number(self.mean_change, "grey levels of 255", "pixels"),
        }

    def full(self) -> Json:
        """The summary and both maps as base64 PNG."""
        return {
            **self.summary(),
            "attention_map": {
                "png": _png(self.attention_map * 255),
                "unit": "255 is 1",
                "by": self.landmark_network,
            },
            "change_map": {"png": _png(self.change_map), "unit": "grey levels of 255", "by": "pixels"},
        }


@torch.inference_mode()
def honesty_report(
    analyzer: FaceAnalyzer, face: AlignedFace, restored: Pixels, references: Sequence[Reference]
) -> HonestyReport:
    """Measures a restored crop `[512, 512, 3]` against its input and the references that were given for it."""
    image = to_network([restored])
    landmarks = analyzer.landmark_detector.landmarks(image).points[0].cpu()
    identity = analyzer.identity_encoder.embed(image)[0].cpu()
    change = np.abs(restored.astype(np.float32) - face.crop.astype(np.float32)).mean(2)
    angle = identity_angle(identity, face.identity)
    evidence, chosen = _evidence(face, identity, angle, references, analyzer.matching_angle)
    return HonestyReport(
        references=evidence,
        chosen_reference=chosen,
        affine_landmark_distance_eyes=_affine_distance(landmarks, face.landmarks, EYES),
        affine_landmark_distance_mouth=_affine_distance(landmarks, face.landmarks, MOUTH),
        landmark_distance=float((landmarks - face.landmarks).norm(dim=1).mean()),
        identity_angle=angle,
        identity_legible=is_legible([one.angle_to_input for one in evidence], angle, analyzer.matching_angle),
        colour_shift=colour_shift(image[0], to_network([face.crop])[0]),
        mean_change=float(change.mean()),
        attention_map=face.attention.numpy(),
        change_map=change,
        landmark_network=analyzer.landmark_detector.name,
        identity_network=analyzer.identity_encoder.name,
        matching_angle=analyzer.matching_angle,
    )


def _evidence(
    face: AlignedFace, identity: Tensor, angle: float, references: Sequence[Reference], matching_angle: float
) -> tuple[tuple[ReferenceEvidence, ...], int | None]:
    packed = References.pack([references])
    if packed is None:
        return (), None
    distances = reference_distances(face.landmarks[None], packed).tolist()
    to_input, to_restored = identity_angles(torch.stack([face.identity, identity]), packed.identity)
    between = identity_angles(packed.identity, packed.identity)
    wrong = wrong_person(to_input, between, angle, matching_angle)
    used = used_references(to_input, between, matching_angle)
    generated = [reference.generated for reference in references]
    rows = zip(distances, to_input, to_restored, wrong, used, generated, strict=True)
    chosen = min((i for i in range(len(used)) if used[i]), key=distances.__getitem__)
    return tuple(ReferenceEvidence(*row) for row in rows), chosen


def _affine_distance(restored: Tensor, lq: Tensor, points: tuple[int, ...]) -> float:
    return float(affine_landmark_distance(restored[list(points)], lq[list(points)], check=False))


def _number(value: float, unit: str, by: str) -> Json:
    # A degenerate face is infinitely far in A-LD, which JSON cannot say.
    return {"value": round(value, 3) if math.isfinite(value) else None, "unit": unit, "by": by}


def _png(levels: Map) -> str:
    out = io.BytesIO()
    Image.fromarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode("ascii")
