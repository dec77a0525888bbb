"""Errors as RFC 9457 problem documents: each kind has a `type` of its own, and every one carries the request's id."""

import math
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"
_BASE = "urn:honestface:problem:"


@dataclass(frozen=True)
class Kind:
    """A kind of problem: the last part of its `type`, its status and its title."""

    name: str
    status: int
    title: str

    @property
    def type(self) -> str:
        return _BASE + self.name


INVALID_REQUEST = Kind("invalid-request", 400, "The request cannot be understood")
UNAUTHORIZED = Kind("unauthorized", 401, "An API key is needed")
NOT_FOUND = Kind("not-found", 404, "There is nothing here")
REFERENCE_SET_NOT_FOUND = Kind("reference-set-not-found", 404, "No such reference set, or it has expired")
METHOD_NOT_ALLOWED = Kind("method-not-allowed", 405, "This route does not take this method")
NOT_ACCEPTABLE = Kind("not-acceptable", 406, "None of the accepted media types can be produced")
UPLOAD_TIMEOUT = Kind("upload-timeout", 408, "The upload took too long")
TOO_LARGE = Kind("too-large", 413, "The upload is too large")
PICTURE_TOO_LARGE = Kind("picture-too-large", 413, "The picture has too many pixels")
UNSUPPORTED_MEDIA_TYPE = Kind("unsupported-media-type", 415, "This media type or picture format is not read")
INVALID_OPTION = Kind("invalid-option", 422, "An option has a value that it cannot take")
INVALID_PICTURE = Kind("invalid-picture", 422, "A picture cannot be decoded")
INVALID_REFERENCE = Kind("invalid-reference", 422, "A reference cannot be used")
NO_FACE = Kind("no-face", 422, "The picture shows no face that can be restored")
TOO_MANY_PARTS = Kind("too-many-parts", 422, "Too many files or fields")
TOO_MANY_FACES = Kind("too-many-faces", 422, "Too many faces in the picture")
OVERLOADED = Kind("overloaded", 429, "Too much work is waiting")
INTERNAL = Kind("internal-error", 500, "Something went wrong here")
DRAINING = Kind("draining", 503, "The service is shutting down")
NOT_READY = Kind("not-ready", 503, "The service is not ready")
OUT_OF_MEMORY = Kind("out-of-memory", 503, "The device has too little memory for this face")
DEVICE_FAILED = Kind("device-failed", 503, "The device has failed; the service restarts")
DEADLINE_EXCEEDED = Kind("deadline-exceeded", 504, "The request's deadline has passed")

KINDS = {kind.name: kind for kind in list(globals().values()) if isinstance(kind, Kind)}


@dataclass
class Problem(Exception):
    """Raised anywhere in a request, answered as its document; `retry_after`, in seconds, becomes Retry-After."""

    kind: Kind
    detail: str
    retry_after: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind.name}: {self.detail}"

    def document(self, request_id: str) -> dict[str, Any]:
        """The problem document."""
        return {
            "type": self.kind.type,
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            "request_id": request_id,
            **self.extra,
        }

    def response(self, request_id: str) -> JSONResponse:
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        if self.kind is UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.document(request_id), self.kind.status, headers, MEDIA_TYPE)
