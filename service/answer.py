"""The answer to POST /restore in its three forms: the picture, a JSON document, or both in multipart/mixed."""

import base64
import json
import secrets
from dataclasses import dataclass

from models.choices import Diagnostics, PictureFormat
from models.face_restorer import Restoration, RestoredFace
from models.geometry import invert_affine, transform_points
from service.engine import ModelInfo
from service.options import MEDIA_TYPES, Body


@dataclass(frozen=True, eq=False)
class Answer:
    """A body and its media type; `faces` is the number of faces restored."""

    body: bytes
    media_type: str
    faces: int


def answer(
    picture: bytes,
    format: PictureFormat,
    restoration: Restoration,
    diagnostics: Diagnostics,
    body: Body,
    request_id: str,
    model: ModelInfo,
) -> Answer:
    """Puts an encoded picture and what was done to its faces into the wanted form."""
    faces, media_type, uploaded = len(restoration.faces), MEDIA_TYPES[format], restoration.picture
    if body == "image":
        return Answer(picture, media_type, faces)
    described: dict[str, object] = {
        "media_type": media_type,
        "width": restoration.picture.width,
        "height": restoration.picture.height,
    }
    if body == "json":
        described["base64"] = base64.b64encode(picture).decode("ascii")
    document = json.dumps(
        {
            "request_id": request_id,
            "model": {"bundle": model.bundle, "version": model.version, "profile": model.profile},
            "upload": {"first_of_several": uploaded.first_of_several, "generated": uploaded.generated},
            "picture": described,
            "faces": [_face(face, diagnostics) for face in restoration.faces],
        }
    ).encode()
    if body == "json":
        return Answer(document, "application/json", faces)
    boundary = secrets.token_hex(16)
    parts = [("application/json", document), (media_type, picture)]
    mixed = b"".join(
        b"--%s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s\r\n"
        % (boundary.encode(), kind.encode(), len(part), part)
        for kind, part in parts
    )
    return Answer(mixed + b"--%s--\r\n" % boundary.encode(), f"multipart/mixed; boundary={boundary}", faces)


def _face(face: RestoredFace, diagnostics: Diagnostics) -> dict[str, object]:
    """A face: its box and 68 landmarks in the upload's pixels, the matrix that aligns it, its report."""
    landmarks = transform_points(invert_affine(face.face.matrix), face.face.landmarks.numpy())
    described: dict[str, object] = {
        "box": [round(float(edge), 1) for edge in face.face.box],
        "landmarks": [[round(float(x), 1), round(float(y), 1)] for x, y in landmarks],
        "aligning_matrix": [[float(value) for value in row] for row in face.face.matrix],
    }
    if face.report is not None:
        described["report"] = face.report.full() if diagnostics == "full" else face.report.summary()
    return described
