"""HTTP/1.1 as h11 reads it, less what no honest client sends."""

import h11

#: So many chunks may be small; of more, the mean has to be so many bytes. Reading a chunk takes the event loop 27 us
#: whatever its size: a megabyte in chunks of a byte would keep it from everything else for five seconds.
_FEW_CHUNKS, _LEAST_CHUNK = 500, 64


class StrictConnection(h11.Connection):
    """The server's side of a connection. A breach is a RemoteProtocolError, which uvicorn answers with 400."""

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
