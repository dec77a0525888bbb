"""Optional API keys: the settings hold their SHA-256 only."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence

from fastapi import Depends
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.requests import Request

from service.problems import UNAUTHORIZED, Problem

_NEEDED = "Needed where the service was given keys."
#: Describe the two ways to send a key in the OpenAPI document; `authenticate` does the checking.
KEY_SCHEMES = [
    Depends(HTTPBearer(auto_error=False, description=_NEEDED)),
    Depends(APIKeyHeader(name="X-API-Key", auto_error=False, description=_NEEDED)),
]


def new_key() -> tuple[str, str]:
    """A fresh key and the hash that the service is given."""
    key = "hf_" + secrets.token_urlsafe(32)
    return key, hash_key(key)


def hash_key(key: str) -> str:
    """A key's SHA-256; keys are long random strings, so a slow hash would add nothing."""
    return hashlib.sha256(key.encode()).hexdigest()


def authenticate(request: Request, hashes: Sequence[str]) -> str:
    """The caller's hash, which separates callers' reference sets; empty when the service is open.

    Raises:
        Problem: a key is needed and the one given, if any, is not known.
    """
    if not hashes:
        return ""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    given = hash_key(token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", ""))
    # Every hash is compared in full, so that the time taken tells nothing about which one fits.
    fitting = [known for known in hashes if hmac.compare_digest(given, known)]
    if not fitting:
        raise Problem(UNAUTHORIZED, "send a key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")
    return fitting[0]
