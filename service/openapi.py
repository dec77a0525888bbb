"""What the OpenAPI document says beyond the routes' own types: forms, answers, and an example for every status."""

from typing import Any

from service import problems
from service.answer_schema import DOCUMENT_EXAMPLE, DOCUMENT_SCHEMA
from service.options import MEDIA_TYPES, RestoreOptions
from service.problems import MEDIA_TYPE, Kind, Problem

Responses = dict[int | str, dict[str, Any]]

UPLOAD_PROBLEMS = (
    problems.INVALID_REQUEST,
    problems.UNAUTHORIZED,
    problems.UPLOAD_TIMEOUT,
    problems.TOO_LARGE,
    problems.PICTURE_TOO_LARGE,
    problems.UNSUPPORTED_MEDIA_TYPE,
    problems.INVALID_OPTION,
    problems.INVALID_REFERENCE,
    problems.TOO_MANY_PARTS,
    problems.OVERLOADED,
    problems.INTERNAL,
    problems.DRAINING,
    problems.NOT_READY,
    problems.DEVICE_FAILED,
    problems.DEADLINE_EXCEEDED,
)
_RESTORE_PROBLEMS = (
    *UPLOAD_PROBLEMS,
    problems.REFERENCE_SET_NOT_FOUND,
    problems.NOT_ACCEPTABLE,
    problems.INVALID_PICTURE,
    problems.NO_FACE,
    problems.TOO_MANY_FACES,
    problems.OUT_OF_MEMORY,
)
_PROBLEM_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "request_id": {"type": "string"},
    },
}
_RETRY = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}


def problem_responses(*kinds: Kind) -> Responses:
    """The OpenAPI responses of some kinds of problem, with an example for each."""
    responses: Responses = {}
    for kind in kinds:
        described = responses.setdefault(kind.status, _described(kind.title))
        described["content"][MEDIA_TYPE]["examples"][kind.name] = _example(kind)
        if kind.status in (429, 503):
            described["headers"] = _RETRY
    return responses


def _described(description: str, *kinds: Kind) -> dict[str, Any]:
    examples = {kind.name: _example(kind) for kind in kinds}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": _PROBLEM_SCHEMA, "examples": examples}}}


def _example(kind: Kind) -> dict[str, Any]:
    return {"summary": kind.title, "value": Problem(kind, kind.title).document("0b8ec0a1f34f4d0e8f6f")}


#: Where a route declares it, FastAPI adds no 422 of its own kind, which this service never answers.
ANY_PROBLEM: Responses = {"default": _described("Any other problem", problems.INTERNAL)}


def answers(example: object, media_type: str = "application/json") -> Responses:
    """The OpenAPI response of a route that answers 200, with an example of it."""
    return {200: {"content": {media_type: {"example": example}}}}


_FILES = {"type": "array", "items": {"type": "string", "format": "binary"}}
_HOW_MANY = "GET /health tells how many are taken."


def _form_field(option: dict[str, Any]) -> dict[str, Any]:
    """An option's schema for a form, which knows no null: there what is None is left out."""
    described = {key: value for key, value in option.items() if key not in ("anyOf", "default")}
    if option.get("default") is not None:
        described["default"] = option["default"]
    (kind,) = [each for each in option.get("anyOf", [{}]) if each != {"type": "null"}]
    return {**kind, **described}


RESTORE_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["image"],
                "not": {"required": ["references", "reference_set"]},
                "properties": {
                    "image": {"type": "string", "format": "binary", "description": "The picture to restore."},
                    "references": {
                        **_FILES,
                        "description": f"Photographs of the same person; the largest face counts. {_HOW_MANY}",
                    },
                    **{
                        name: _form_field(option)
                        for name, option in RestoreOptions.model_json_schema()["properties"].items()
                    },
                },
                "additionalProperties": False,
            }
        }
    },
}
UPLOAD_PARAMETERS = [
    {
        "name": "X-Request-Timeout",
        "in": "header",
        "schema": {"type": "number", "exclusiveMinimum": 0},
        "description": "Seconds until the answer is of no use any more.",
    },
    {
        "name": "X-Request-Id",
        "in": "header",
        "schema": {"type": "string"},
        "description": "1 to 64 letters, digits, dots, dashes or underscores; anything else is replaced.",
    },
]
RESTORE_RESPONSES: Responses = {
    200: {
        "description": "The restored picture, in the form that the Accept header asks for",
        "content": {
            **{kind: {"schema": {"type": "string", "format": "binary"}} for kind in MEDIA_TYPES.values()},
            "application/json": {"schema": DOCUMENT_SCHEMA, "example": DOCUMENT_EXAMPLE},
            "multipart/mixed": {"schema": {"type": "string", "format": "binary"}},
        },
        "headers": {
            "Server-Timing": {
                "description": "Milliseconds of queue, decode, align, device and encode.",
                "schema": {"type": "string"},
            },
            "X-Request-Id": {"schema": {"type": "string"}},
        },
    },
    **problem_responses(*_RESTORE_PROBLEMS),
}
REFERENCE_SET_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["references"],
                "properties": {"references": {**_FILES, "minItems": 1, "description": _HOW_MANY}},
                "additionalProperties": False,
            }
        }
    },
}
