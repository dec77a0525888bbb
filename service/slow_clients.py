"""Closes the connections of clients that bring no whole request head in time, or take nothing of an answer: uvicorn
itself waits for either for ever. Bounds what all clients together have yet to take."""

import asyncio

import h11

from service.strict_http import StrictProtocol

#: Seconds from a connection's opening, or from the first byte of a later request, to the end of the request's head.
HEAD_S = 10.0
#: A body, an upload's or an answer's, has to move by so many bytes in so many seconds.
LEAST_BYTES, TAKE_S = 4096, 10.0


class ImpatientProtocol(StrictProtocol):
    """HTTP/1.1 on one connection. Heads are waited for briefly; an answer takes its time as long as it is taken. (How
    an upload has to come is `service.connection`'s.)"""

    #: Of the answers of all connections that have yet to be taken; past it whoever has been at it longest is let go.
    answer_bytes: int

    _patience: asyncio.TimerHandle | None = None
    _delivery: asyncio.TimerHandle | None = None
    _taking_since = 0.0

    @property
    def undelivered(self) -> int:
        """Bytes of answers that the client has yet to take."""
        return self.transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # the last bytes of an answer are waited for like the first
        self._be_impatient()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # The rest of a body that was answered before it came is read by nobody, and no other timer runs.
        answered = self.cycle is not None and self.cycle.response_complete
        if self.conn.their_state is not h11.IDLE and not (answered and self.conn.their_state is h11.SEND_BODY):
            self._be_patient()
        elif self._patience is None:
            self._be_impatient()

    def pause_writing(self) -> None:
        """Called by the transport when the client has not taken what was written."""
        super().pause_writing()
        self._taking_since = self.loop.time()
        self._watch_delivery()
        self._make_room()

    def resume_writing(self) -> None:
        """Called by the transport when nothing waits any more."""
        self._end_delivery()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._be_patient()
        self._end_delivery()
        super().connection_lost(exc)

    def _watch_delivery(self) -> None:
        before = self.undelivered

        def look() -> None:
            if self.undelivered > before - LEAST_BYTES:
                self.transport.abort()
            else:
                self._watch_delivery()

        self._delivery = self.loop.call_later(TAKE_S, look)

    def _make_room(self) -> None:
        """Lets go who has been taking an answer for longest while there are several and they are over the bound."""
        taking = [each for each in self.connections if isinstance(each, ImpatientProtocol) and each.undelivered]
        taking.sort(key=lambda each: each._taking_since)
        while len(taking) > 1 and sum(each.undelivered for each in taking) > self.answer_bytes:
            taking.pop(0).transport.abort()

    def _end_delivery(self) -> None:
        if self._delivery is not None:
            self._delivery.cancel()
            self._delivery = None

    def _be_impatient(self) -> None:
        self._patience = self.loop.call_later(HEAD_S, self.transport.close)

    def _be_patient(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
