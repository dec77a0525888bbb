"""HTTP/1.1 as h11 reads it, less what no honest client sends."""

import contextlib
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.metrics import Metrics
from service.problems import INVALID_REQUEST, Problem
from service.request_scope import account, context_in

#: So many chunks may be small; of more, the mean has to be so many bytes. Reading a chunk takes the event loop 27 us
#: whatever its size: a megabyte in chunks of a byte would keep it from everything else for five seconds.
_FEW_CHUNKS, _LEAST_CHUNK = 500, 64


class StrictConnection(h11.Connection):
    """The server's side of a connection. A breach is a RemoteProtocolError."""

    _chunked = False
    _chunks = 0
    _bytes = 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        event = super().next_event()
        if isinstance(event, h11.Request):
            names = {name for name, _ in event.headers}
            self._chunked, self._chunks, self._bytes = b"transfer-encoding" in names, 0, 0
            if self._chunked and b"content-length" in names:  # two opinions on where the request ends (RFC 9112 6.3)
                raise h11.RemoteProtocolError("Content-Length beside Transfer-Encoding")
        elif isinstance(event, h11.Data) and self._chunked:
            self._chunks += event.chunk_start
            self._bytes += len(event.data)
            whole = self._chunks - 1  # of the last there may be more to come
            if whole > _FEW_CHUNKS and self._bytes < _LEAST_CHUNK * whole:
                raise h11.RemoteProtocolError("the body comes in very small chunks")
        return event


class StrictProtocol(H11Protocol):
    """HTTP/1.1 on one connection, where a breach is answered, counted and logged as the application does it."""

    #: Where requests that no application gets to see are counted.
    metrics: Metrics

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = StrictConnection(h11.SERVER)

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn at a breach. Where an answer has begun, only closing can tell the client."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._refuse()
        if self.cycle is not None:
            self.cycle.disconnected = True  # nobody listens to the application any more
        self.transport.close()

    def _refuse(self) -> None:
        in_work = self.cycle is not None and not self.cycle.response_complete
        scope: Any = self.scope if in_work else {"method": "other", "headers": ()}
        context = context_in(scope)
        context.status = INVALID_REQUEST.status
        problem = Problem(INVALID_REQUEST, "this is no valid HTTP/1.1 request, or its body comes in very small chunks")
        response = problem.response(context.id)
        headers = [*response.raw_headers, (b"x-request-id", context.id.encode()), (b"connection", b"close")]
        head = h11.Response(status_code=response.status_code, headers=headers, reason=b"Bad Request")
        with contextlib.suppress(h11.LocalProtocolError):  # what answers HEAD has no body
            for part in (head, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(part))
        if not in_work:
            account(self.metrics, scope, context)
