"""The JSON schema of what POST /restore answers as a JSON document (service.answer), with an example."""

from typing import Any

from service.options import MEDIA_TYPES

Schema = dict[str, Any]

_STRING, _INTEGER, _NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
_BASE64 = {"type": "string", "contentEncoding": "base64"}
_SQUARED, _DEGREES, _LEVELS = "px^2 at 512 px", "degrees", "grey levels of 255"


def _object(description: str, properties: Schema, optional: tuple[str, ...] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "description": description, "required": required, "properties": properties}


def _list(of: Schema, description: str, length: int | None = None) -> Schema:
    described: Schema = {"type": "array", "description": description, "items": of}
    return described if length is None else {**described, "minItems": length, "maxItems": length}


def _measured(what: str, values: Schema, unit: str, description: str) -> Schema:
    made = {**_STRING, "description": "The network or the method that it was made with."}
    return _object(description, {what: values, "unit": {**_STRING, "const": unit}, "by": made})


def _value(unit: str, description: str) -> Schema:
    return _measured("value", _NUMBER, unit, description)


def _distance(description: str) -> Schema:
    infinite = "null: infinite, for the landmarks of one of the faces are degenerate."
    return _measured("value", {"type": ["number", "null"], "description": infinite}, _SQUARED, description)


def _map(unit: str, description: str) -> Schema:
    png = {**_BASE64, "contentMediaType": "image/png"}
    return _measured("png", png, unit, f"{description}; a grey PNG, with `diagnostics=full`")


_REFERENCE = _object(
    "A reference, in the order that they were given in",
    {
        "affine_landmark_distance": _distance("A-LD to the input (Eq. 6): how unlike pose and expression are"),
        "identity_angle_to_input": _value(_DEGREES, "Between the persons of reference and input"),
        "identity_angle_to_restored": _value(_DEGREES, "Between the persons of reference and result"),
        "wrong_person": {
            "type": ["boolean", "null"],
            "description": "Whether it seems to show somebody else than the input; null: the input cannot tell.",
        },
        "used": {"type": "boolean", "description": "Whether the face was restored with it."},
        "generated": {
            "type": "boolean",
            "description": "Whether its metadata say that a trained model made it or part of it: no evidence then.",
        },
    },
)
_REPORT = _object(
    "The honesty report, measured on the aligned 512 px faces; absent with `diagnostics=none`",
    {
        "chosen_reference": {
            "type": ["integer", "null"],
            "description": "Index of the used reference that is nearest by A-LD; null: the face was given none.",
        },
        "references": _list(
            _REFERENCE, "Each reference; empty where the face was given none: of several faces one gets them all"
        ),
        "affine_landmark_distance_eyes": _distance("A-LD of eyes and brows, result against input (Eq. 14)"),
        "affine_landmark_distance_mouth": _distance("A-LD of the mouth, result against input (Eq. 14)"),
        "landmark_distance": _value("px at 512 px, mean of 68 points", "L2-LD, result against input"),
        "identity_angle": _value(_DEGREES, "Between the persons of result and input"),
        "identity_matching_angle": _value(_DEGREES, "Up to this angle two pictures are held for one person's"),
        "identity_legible": {
            "type": "boolean",
            "description": "Whether the input carries enough identity to be compared with anybody.",
        },
        "colour_shift": _value("CIELAB", "How far colours moved from input to result"),
        "mean_change": _value(_LEVELS, "Mean difference of result and input"),
        "attention_map": _map("255 is 1", "Where the landmarks were read in the input (Eq. 11)"),
        "change_map": _map(_LEVELS, "Where and how much the result differs from the input; 512x512"),
    },
    optional=("attention_map", "change_map"),
)
_FACE = _object(
    "A restored face; its places are in pixels of the upload, set upright",
    {
        "box": _list(_NUMBER, "Left, top, right, bottom", 4),
        "landmarks": _list(
            _list(_NUMBER, "x, y", 2),
            "68 points (the example shows one): jaw 0-16, brows 17-26, nose 27-35, eyes 36-47, mouth 48-67",
        ),
        "aligning_matrix": _list(_list(_NUMBER, "A row", 3), "From the upload to the aligned 512 px face", 2),
        "report": _REPORT,
    },
    optional=("report",),
)
DOCUMENT_SCHEMA = _object(
    "What was done; the first part of `multipart/mixed` is the same without `picture.base64`",
    {
        "request_id": {**_STRING, "description": "That of the X-Request-Id header"},
        "model": _object("The bundle", {"bundle": _STRING, "version": _STRING, "profile": _STRING}),
        "upload": _object(
            "What was sent",
            {
                "first_of_several": {
                    "type": "boolean",
                    "description": "Whether the file holds more pictures, as pages or frames, which were not restored.",
                },
                "generated": {
                    "type": "boolean",
                    "description": "Whether its metadata say that a trained model made it or part of it.",
                },
            },
        ),
        "picture": _object(
            "The restored picture",
            {
                "media_type": {**_STRING, "enum": list(MEDIA_TYPES.values())},
                "width": _INTEGER,
                "height": _INTEGER,
                "base64": {**_BASE64, "description": "The picture's file"},
            },
        ),
        "faces": _list(_FACE, "The restored faces, the largest first"),
    },
)

_POINTS, _PERSON = "embedded landmark network, 68 points", "embedded identity network, 128-d"
_PNG = "iVBORw0KGgo="
DOCUMENT_EXAMPLE = {
    "request_id": "0b8ec0a1f34f4d0e8f6f",
    "model": {"bundle": "honestface-tiny", "version": "0.22.0", "profile": "tiny"},
    "upload": {"first_of_several": False, "generated": False},
    "picture": {"media_type": "image/png", "width": 1600, "height": 1200, "base64": _PNG},
    "faces": [
        {
            "box": [612.0, 280.5, 840.2, 560.0],
            "landmarks": [[630.1, 402.7]],
            "aligning_matrix": [[0.9, 0.0, -300.0], [0.0, 0.9, -180.0]],
            "report": {
                "chosen_reference": 0,
                "references": [
                    {
                        "affine_landmark_distance": {"value": 2432.919, "unit": _SQUARED, "by": _POINTS},
                        "identity_angle_to_input": {"value": 21.887, "unit": _DEGREES, "by": _PERSON},
                        "identity_angle_to_restored": {"value": 17.552, "unit": _DEGREES, "by": _PERSON},
                        "wrong_person": False,
                        "used": True,
                        "generated": False,
                    }
                ],
                "affine_landmark_distance_eyes": {"value": 61.155, "unit": _SQUARED, "by": _POINTS},
                "affine_landmark_distance_mouth": {"value": 8.909, "unit": _SQUARED, "by": _POINTS},
                "landmark_distance": {"value": 2.259, "unit": "px at 512 px, mean of 68 points", "by": _POINTS},
                "identity_angle": {"value": 17.149, "unit": _DEGREES, "by": _PERSON},
                "identity_matching_angle": {"value": 76.7, "unit": _DEGREES, "by": _PERSON},
                "identity_legible": True,
                "colour_shift": {
                    "value": 1.375,
                    "unit": "CIELAB",
                    "by": "sliced Wasserstein distance, stand-in for MS-SWD",
                },
                "mean_change": {"value": 7.058, "unit": _LEVELS, "by": "pixels"},
                "attention_map": {"png": _PNG, "unit": "255 is 1", "by": _POINTS},
                "change_map": {"png": _PNG, "unit": _LEVELS, "by": "pixels"},
            },
        }
    ],
}
