"""A client of the service, in a synchronous and an asynchronous form.

with Client("http://127.0.0.1:8000") as client:
    client.restore("photo.jpg", references=["ref1.jpg", "ref2.jpg"]).save("restored.jpg")
"""

import asyncio
import base64
import mimetypes
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

Source = str | Path | bytes
Sources = Source | Sequence[Source]
_LONGEST_PAUSE = 60.0
_LOST_PAUSE = 1.0
#: As httpx tells that nobody listens, or that who did was lost before the answer was whole.
_LOST = (httpx.NetworkError, httpx.RemoteProtocolError)
_Answer = httpx.Response | httpx.TransportError


class ServiceError(Exception):
    """The service refused; `problem` is its RFC 9457 document."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(f"{status} {problem.get('title', '')}: {problem.get('detail', '')}")
        self.status, self.problem = status, problem


@dataclass(frozen=True)
class Restored:
    """A restored picture as a file's bytes, its media type, what was done to each face, and what is to be known of the
    `upload`; both as in the JSON answer (docs/service.md)."""

    picture: bytes
    media_type: str
    faces: list[dict[str, Any]]
    upload: dict[str, bool]
    request_id: str

    def save(self, path: str | Path) -> None:
        """Writes the picture as it came: in the upload's format, or the one that `format` asked for.

        Raises:
            ValueError: the path's suffix means another format.
        """
        suffix = Path(path).suffix
        meant, _ = mimetypes.MimeTypes().guess_type(f"picture{suffix}", strict=False)
        if meant not in (None, self.media_type):
            raise ValueError(f"the picture is {self.media_type}, not {suffix}: restore with the `format` to be saved")
        Path(path).write_bytes(self.picture)


class _Calls:
    """What both clients send and how they read the answers."""

    def __init__(self, url: str, api_key: str | None, timeout: float, retries: int) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._how: dict[str, Any] = {"base_url": url, "headers": headers, "timeout": timeout}
        self._timeout, self._retries = timeout, retries

    def _restore(
        self, image: Source, references: Sources, options: Mapping[str, object]
    ) -> tuple[str, str, dict[str, Any]]:
        files = [("image", _file(image)), *_references(references)]
        # The service need not work on what we would no longer read.
        headers = {"Accept": "application/json", "X-Request-Timeout": str(self._timeout)}
        data = {name: str(value) for name, value in options.items() if value is not None}
        return "POST", "/restore", {"files": files, "data": data, "headers": headers}

    def _put(self, name: str, references: Sources) -> tuple[str, str, dict[str, Any]]:
        path, files = _set(name), _references(references)
        if not files:
            raise ValueError("a reference set has at least one reference")
        return "PUT", path, {"files": files}

    def _pause(self, response: _Answer, attempt: int) -> float | None:
        """How long to wait before asking again; None when the answer stands."""
        if attempt >= self._retries:
            return None
        if isinstance(response, httpx.TransportError):  # while it starts again nobody listens
            return _LOST_PAUSE * 2.0**attempt
        if response.status_code in (429, 503) and "retry-after" in response.headers:
            return min(_seconds(response.headers["retry-after"]), _LONGEST_PAUSE)
        # No problem of the service's own: something before it has lost the process that worked on this. Whatever was
        # asked may be asked again.
        return _LOST_PAUSE if response.status_code >= 500 and not _is_problem(response) else None


class Client(_Calls):
    """Asks the service at `url`; waits and asks again up to `retries` times when it is busy (429, 503), cannot be
    reached, or one of its processes was lost."""

    def __init__(self, url: str, *, api_key: str | None = None, timeout: float = 60.0, retries: int = 3) -> None:
        super().__init__(url, api_key, timeout, retries)
        self._http = httpx.Client(**self._how)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def restore(self, image: Source, references: Sources = (), **options: object) -> Restored:
        """Restores a picture (a path or a file's bytes) with one or several references; `options` are those of
        POST /restore.

        Raises:
            ServiceError: the service refused.
        """
        return _restored(self._send(*self._restore(image, references, options)))

    def put_references(self, name: str, references: Sources) -> dict[str, Any]:
        """Uploads one or several references under a name, for `restore(..., reference_set=name)`.

        Raises:
            ServiceError: the service refused.
            ValueError: no references, or a name that no set can have.
        """
        return _json(self._send(*self._put(name, references)))

    def get_references(self, name: str) -> dict[str, Any]:
        """What is known of uploaded references; that counts as a use."""
        return _json(self._send("GET", _set(name), {}))

    def delete_references(self, name: str) -> None:
        """Forgets uploaded references."""
        self._send("DELETE", _set(name), {})

    def models(self) -> list[dict[str, Any]]:
        """The models that the service answers with."""
        return list(_json(self._send("GET", "/models", {}))["models"])

    def _send(self, method: str, path: str, how: dict[str, Any]) -> httpx.Response:
        attempt = 0
        while True:
            answer: _Answer
            try:
                answer = self._http.request(method, path, **how)
            except _LOST as error:
                answer = error
            pause = self._pause(answer, attempt)
            if pause is None:
                return _checked(answer)
            time.sleep(pause)
            attempt += 1


class AsyncClient(_Calls):
    """`Client` for asyncio."""

    def __init__(self, url: str, *, api_key: str | None = None, timeout: float = 60.0, retries: int = 3) -> None:
        super().__init__(url, api_key, timeout, retries)
        self._http = httpx.AsyncClient(**self._how)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def restore(self, image: Source, references: Sources = (), **options: object) -> Restored:
        """See `Client.restore`."""
        return _restored(await self._send(*self._restore(image, references, options)))

    async def put_references(self, name: str, references: Sources) -> dict[str, Any]:
        """See `Client.put_references`."""
        return _json(await self._send(*self._put(name, references)))

    async def get_references(self, name: str) -> dict[str, Any]:
        """See `Client.get_references`."""
        return _json(await self._send("GET", _set(name), {}))

    async def delete_references(self, name: str) -> None:
        """See `Client.delete_references`."""
        await self._send("DELETE", _set(name), {})

    async def models(self) -> list[dict[str, Any]]:
        """See `Client.models`."""
        return list(_json(await self._send("GET", "/models", {}))["models"])

    async def _send(self, method: str, path: str, how: dict[str, Any]) -> httpx.Response:
        attempt = 0
        while True:
            answer: _Answer
            try:
                answer = await self._http.request(method, path, **how)
            except _LOST as error:
                answer = error
            pause = self._pause(answer, attempt)
            if pause is None:
                return _checked(answer)
            await asyncio.sleep(pause)
            attempt += 1


def _file(source: Source) -> tuple[str, bytes]:
    # The service has no use for a file's name, so it never leaves this machine.
    return "file", source if isinstance(source, bytes) else Path(source).read_bytes()


def _references(references: Sources) -> list[tuple[str, tuple[str, bytes]]]:
    several = [references] if isinstance(references, str | Path | bytes) else references
    return [("references", _file(each)) for each in several]


def _set(name: str) -> str:
    if name in (".", ".."):  # httpx would ask for another path
        raise ValueError(f"a reference set cannot be called {name!r}")
    return f"/reference-sets/{quote(name, safe='')}"


def _seconds(retry_after: str) -> float:
    """The header's seconds; a proxy may write a date, for which a second is waited."""
    return float(retry_after) if retry_after.isdecimal() else _LOST_PAUSE


def _checked(response: _Answer) -> httpx.Response:
    if isinstance(response, httpx.TransportError):
        raise response
    if response.is_success:
        return response
    raise ServiceError(
        response.status_code, response.json() if _is_problem(response) else {"detail": response.text[:200]}
    )


def _is_problem(response: httpx.Response) -> bool:
    return str(response.headers.get("content-type", "")).startswith("application/problem+json")


def _json(response: httpx.Response) -> dict[str, Any]:
    document: dict[str, Any] = response.json()
    return document


def _restored(response: httpx.Response) -> Restored:
    document = _json(response)
    picture = document["picture"]
    return Restored(
        base64.b64decode(picture["base64"]),
        picture["media_type"],
        document["faces"],
        document["upload"],
        document["request_id"],
    )
