"""Connections that do not bring a whole request head in time are closed: uvicorn itself waits for it for ever."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

#: Seconds from a connection's opening, or from the first byte of a later request, to the end of the request's head.
HEAD_S = 10.0


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 on one connection. What is uploaded or answered takes its time; only heads are waited for briefly."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._be_impatient()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # The rest of a body that was answered before it came is read by nobody, and no other timer runs.
        answered = self.cycle is not None and self.cycle.response_complete
        if self.conn.their_state is not h11.IDLE and not (answered and self.conn.their_state is h11.SEND_BODY):
            self._be_patient()
        elif self._patience is None:
            self._be_impatient()

    def connection_lost(self, exc: Exception | None) -> None:
        self._be_patient()
        super().connection_lost(exc)

    def _be_impatient(self) -> None:
        self._patience = self.loop.call_later(HEAD_S, self.transport.close)

    def _be_patient(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
