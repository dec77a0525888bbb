"""Who may come in: a request is refused before any work when it could not be done in time."""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from service.problems import DRAINING, NO_FACE, OVERLOADED, Problem

_MEMORY_S = 10.0
#: How much longer than estimated the work that is in may take. Its pace is uneven: without a margin one request in
#: fourteen that was let in under overload passed its deadline, and its work was lost.
_MARGIN = 1.25
#: An upload that is younger will soon be work and counts as such (without them five in 672 that were let in under
#: overload passed their deadlines); an older one may take its time.
_BRISK_S = 1.0
#: Where as many requests are in as may be, an upload gives way that has lasted longer and has brought less a second.
_SLOW_S, _SLOW_BYTES = 5.0, 64_000


class Throughput:
    """Seconds a face at the pace of the last busy seconds; idle time does not count."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._busy, self._faces = 0.0, 0.0
        self._last = clock()

    @property
    def seconds_per_face(self) -> float:
        return self._busy / self._faces if self._faces else 0.0

    def assume(self, seconds_per_face: float) -> None:
        """A first guess, until work has been measured."""
        self._busy, self._faces = seconds_per_face, 1.0

    def begin(self) -> None:
        """Work begins after idleness."""
        self._last = self._clock()

    def done(self, faces: int) -> None:
        """Faces have left, finished."""
        now = self._clock()
        kept = math.exp(-(now - self._last) / _MEMORY_S)
        self._busy = self._busy * kept + now - self._last
        self._faces = self._faces * kept + faces
        self._last = now


@dataclass
class Ticket:
    """A request that was let in; it counts for `faces`, one until they are known, and for the bytes it has sent.

    `since` is when it came, `working` holds from its upload's end on, `finished` when all that was to be done for it
    has been done. `gives_way` while its slow upload is about to be refused for another's sake; it counts no more.
    """

    since: float
    faces: int = 1
    received: int = 0
    working: bool = False
    finished: bool = False
    gives_way: bool = False


class Admission:
    """Counts the faces in work and refuses what would wait past its deadline."""

    def __init__(
        self,
        max_requests: int,
        max_faces: int,
        upload_bytes: int,
        drain_s: float,
        refused: Callable[[str], None] = lambda reason: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_requests, self._max_faces, self._drain_s = max_requests, max_faces, drain_s
        self._upload_bytes = upload_bytes
        self._refused, self._clock = refused, clock
        self._tickets: list[Ticket] = []
        self.throughput = Throughput(clock)
        self.draining = False

    @property
    def requests(self) -> int:
        return sum(not ticket.gives_way for ticket in self._tickets)

    @property
    def faces(self) -> int:
        return sum(ticket.faces for ticket in self._tickets if not ticket.gives_way)

    @property
    def estimated_wait(self) -> float:
        """Seconds that the work which is in already will take, brisk uploads included."""
        now = self._clock()
        faces = sum(each.faces for each in self._tickets if each.working or now - each.since < _BRISK_S)
        return faces * self.throughput.seconds_per_face

    @contextmanager
    def admit(self, deadline: float) -> Iterator[Ticket]:
        """Lets a request in until the block ends; `start` its ticket when its upload is there, set the ticket's `faces`
        when known, and `finished` when answered.

        Raises:
            Problem: draining (503), or so much waits that the deadline (by time.monotonic()) would pass (429).
        """
        self._check(deadline)
        ticket = Ticket(self._clock())
        self._tickets.append(ticket)
        try:
            yield ticket
        except Problem as problem:
            # A picture without a face has cost its time all the same; what was refused or given up has not.
            ticket.finished = problem.kind is NO_FACE
            raise
        finally:
            self._tickets = [other for other in self._tickets if other is not ticket]
            if ticket.working and ticket.finished:
                self.throughput.done(ticket.faces)

    def start(self, ticket: Ticket, deadline: float) -> None:
        """The upload is there and work on it begins.

        Raises:
            Problem: so much has begun since it was let in that the deadline would pass (429).
        """
        ahead = sum(each.faces for each in self._tickets if each.working)
        self._check_wait(ahead * self.throughput.seconds_per_face, deadline)
        if not ahead:
            self.throughput.begin()
        ticket.working = True

    def receive(self, ticket: Ticket, count: int) -> None:
        """Counts bytes of an upload, which stay in memory until the request is answered. Called with 0 now and then
        while nothing comes.

        Raises:
            Problem: all uploads together are over the bound (429), and one that is alone is let in; or this one is
                slow and another request needs its place.
        """
        ticket.received += count
        if ticket.gives_way:
            raise self.overloaded("slow", f"{self.requests} requests are in work, and this upload is slow")
        together = sum(each.received for each in self._tickets)
        if together > max(self._upload_bytes, ticket.received):
            raise self.overloaded("uploads", "the uploads in work fill the memory that is meant for them")

    def overloaded(self, reason: str, detail: str) -> Problem:
        """The refusal to raise when a queue is full."""
        self._refused(reason)
        return Problem(OVERLOADED, detail, retry_after=self.estimated_wait)

    def _check(self, deadline: float) -> None:
        if self.draining:
            self._refused("draining")
            raise Problem(DRAINING, "the service is shutting down; another instance may take this", self._drain_s)
        self._check_wait(self.estimated_wait, deadline)
        # last, and where one place is enough: nobody gives way to a request that is refused all the same
        full = self.requests >= self._max_requests or self.faces >= self._max_faces
        if full and self.faces <= self._max_faces:
            self._make_room()
        if self.requests >= self._max_requests:
            raise self.overloaded("requests", f"{self.requests} requests are in work, as many as may be")
        if self.faces >= self._max_faces:
            raise self.overloaded("queue", f"{self.faces} faces are waiting, as many as may wait")

    def _make_room(self) -> None:
        """Has the slowest of slow uploads give way, if there is one."""
        now = self._clock()
        slow = [each for each in self._tickets if not (each.working or each.gives_way) and now - each.since > _SLOW_S]
        slowest = min(slow, key=lambda each: each.received / (now - each.since), default=None)
        if slowest is not None and slowest.received < _SLOW_BYTES * (now - slowest.since):
            slowest.gives_way = True

    def _check_wait(self, wait: float, deadline: float) -> None:
        # Its own face takes its time as well; but where nobody waits, trying costs nobody anything.
        if wait and self._clock() + _MARGIN * wait + self.throughput.seconds_per_face > deadline:
            raise self.overloaded("wait", f"an estimated wait of {wait:.1f} s is too long for the request's deadline")


class PixelBudget:
    """Bounds the decoded pixels in memory; pictures wait for their turn, first come first served."""

    def __init__(self, pixels: int) -> None:
        self._total = self._free = pixels
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, pixels: int) -> AsyncIterator[None]:
        """Holds pixels until the block ends; more than the whole budget counts as the whole budget."""
        pixels = min(pixels, self._total)
        await self._acquire(pixels)
        try:
            yield
        finally:
            self._release(pixels)

    async def _acquire(self, pixels: int) -> None:
        if not self._queue and pixels <= self._free:
            self._free -= pixels
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((pixels, turn))
        try:
            await turn
        except asyncio.CancelledError:
            # It may have been granted in the same moment as it was cancelled.
            if turn.done() and not turn.cancelled():
                self._release(pixels)
            else:
                self._queue = deque(entry for entry in self._queue if entry[1] is not turn)
                self._grant()
            raise

    def _release(self, pixels: int) -> None:
        self._free += pixels
        self._grant()

    def _grant(self) -> None:
        while self._queue and self._queue[0][0] <= self._free:
            pixels, turn = self._queue.popleft()
            if not turn.done():
                self._free -= pixels
                turn.set_result(None)
