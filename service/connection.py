"""The client's side of a request: its deadline, its upload, and whether it is still there."""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from service.form import Form, FormLimits, read_form
from service.problems import DEADLINE_EXCEEDED, INVALID_REQUEST, UPLOAD_TIMEOUT, Problem
from service.request_scope import context_of
from service.slow_clients import LEAST_BYTES

T = TypeVar("T")
_LINGER_S = 2.0
#: How often an upload that brings nothing is looked at.
_LOOK_S = 1.0
_LINGER_BYTES = 64 * 2**20


def deadline_of(request: Request, timeout_s: float) -> float:
    """When the request must be answered, by time.monotonic(): its start and X-Request-Timeout seconds, or `timeout_s`.

    Raises:
        Problem: the header is no positive number.
    """
    given = request.headers.get("x-request-timeout")
    if given is not None:
        try:
            asked = float(given)
        except ValueError:
            asked = math.nan
        if not asked > 0:
            raise Problem(INVALID_REQUEST, "X-Request-Timeout is a positive number of seconds")
        timeout_s = min(asked, timeout_s)
    return context_of(request).started + timeout_s


class Upload:
    """A request's body as it arrives; `complete` once its last byte has been taken."""

    def __init__(self, request: Request) -> None:
        self._request = request
        # Who sends `Expect: 100-continue` has been waiting for our word and has sent nothing.
        self.held_back = "expect" in request.headers
        self.complete = False

    async def next_chunk(self) -> bytes | None:
        """The next bytes, or None at the end.

        Raises:
            ClientDisconnect: the client has left.
        """
        if self.complete:
            return None
        self.held_back = False
        message = await self._request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self.complete = not message.get("more_body", False)
        return bytes(message.get("body", b""))

    async def read_form(
        self, limits: FormLimits, deadline: float, idle_s: float, receive: Callable[[int], None]
    ) -> Form:
        """Reads the body as a form; `receive` is told of each chunk's bytes, and of 0 while none come.

        Raises:
            Problem: see service.form; also when the upload brings less than LEAST_BYTES in `idle_s` or lasts until the
                deadline, and what `receive` raises.
        """

        async def chunks() -> AsyncIterator[bytes]:
            patience, brought = time.monotonic() + idle_s, 0
            while not self.complete:
                left = min(patience, deadline) - time.monotonic()
                if left <= 0:
                    raise Problem(UPLOAD_TIMEOUT, "the upload stalled or lasted until the request's deadline")
                chunk = None
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(left, _LOOK_S)):
                        chunk = await self.next_chunk()
                if not chunk:
                    receive(0)
                else:
                    brought += len(chunk)
                    if brought >= LEAST_BYTES:
                        patience, brought = time.monotonic() + idle_s, 0
                    receive(len(chunk))
                    yield chunk

        headers = self._request.headers
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > limits.request_bytes:
            raise limits.request_too_large()
        return await read_form(headers.get("content-type", ""), chunks(), limits)

    async def discard(self) -> None:
        """Takes what is left of the body, up to a size and for a time."""
        total = 0
        with contextlib.suppress(TimeoutError, ClientDisconnect):
            async with asyncio.timeout(_LINGER_S):
                while total < _LINGER_BYTES and (chunk := await self.next_chunk()) is not None:
                    total += len(chunk)


@contextlib.asynccontextmanager
async def upload_of(request: Request) -> AsyncIterator[Upload]:
    """The request's upload. When it is refused, what is left of it is taken within bounds before the refusal is
    answered, for most clients read only once they have written."""
    upload = Upload(request)
    try:
        yield upload
    except Problem as problem:
        if not upload.held_back and problem.kind is not UPLOAD_TIMEOUT:
            await upload.discard()
        raise


async def answer_in_time(request: Request, work: Awaitable[T], deadline: float) -> T:
    """The result of work, which is cancelled when the client leaves or the deadline passes.

    Raises:
        Problem: the deadline (by time.monotonic()) has passed.
        ClientDisconnect: the client has left.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_disconnected(request))
    try:
        left = max(deadline - time.monotonic(), 0)
        done, _ = await asyncio.wait({task, watch}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            return task.result()
        if watch in done:
            raise ClientDisconnect
        raise Problem(DEADLINE_EXCEEDED, "the request's deadline has passed")
    finally:
        task.cancel()
        watch.cancel()
        await asyncio.wait({task, watch})


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
