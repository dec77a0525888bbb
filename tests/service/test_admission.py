import asyncio
import contextlib

import pytest

from service.admission import Admission, PixelBudget, Throughput
from service.problems import DEADLINE_EXCEEDED, DRAINING, INVALID_OPTION, NO_FACE, OVERLOADED, Problem


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_throughput_follows_the_pace_of_busy_time() -> None:
    clock = Clock()
    pace = Throughput(clock)
    pace.assume(3.0)
    assert pace.seconds_per_face == 3.0
    pace.begin()
    for _ in range(60):
        clock.now += 0.5
        pace.done(2)
    assert pace.seconds_per_face == pytest.approx(0.25, rel=0.05), "the first guess is forgotten"
    clock.now += 1000
    pace.begin()
    clock.now += 0.5
    pace.done(2)
    assert pace.seconds_per_face == pytest.approx(0.25, rel=0.05), "idle time does not count"


def test_admission_counts_faces_and_refuses_a_wait_past_the_deadline() -> None:
    clock, refused = Clock(), []
    admission = Admission(10, 100, 10**6, 5, refused.append, clock)
    admission.throughput.assume(2.0)
    with admission.admit(clock.now + 1) as ticket:
        ticket.faces = 5
        assert admission.estimated_wait == 10
        clock.now += 5
        assert admission.estimated_wait == 0, "it is uploaded slowly"
        admission.start(ticket, clock.now + 100)
        assert admission.estimated_wait == 10
        with pytest.raises(Problem) as caught, admission.admit(clock.now + 14.4):
            pass
        assert caught.value.kind is OVERLOADED and caught.value.retry_after == 10
        with admission.admit(clock.now + 14.6):
            assert (admission.requests, admission.faces) == (2, 6)
    assert (admission.requests, admission.faces) == (0, 0)
    assert refused == ["wait"]


def test_who_was_let_in_is_refused_once_the_upload_has_come_too_late() -> None:
    clock = Clock()
    admission = Admission(10, 100, 10**6, 5, clock=clock)
    admission.throughput.assume(2.0)
    with admission.admit(clock.now + 10) as slow, admission.admit(clock.now + 10) as fast:
        fast.faces = 5  # as is found out later
        admission.start(fast, clock.now + 10)
        with pytest.raises(Problem) as caught:
            admission.start(slow, clock.now + 10)
        assert caught.value.kind is OVERLOADED


def test_an_uploads_time_is_no_work() -> None:
    clock = Clock()
    admission = Admission(10, 100, 10**6, 5, clock=clock)
    admission.throughput.assume(0.1)
    with admission.admit(clock.now + 60) as ticket:
        clock.now += 20
        admission.start(ticket, clock.now + 40)
        clock.now += 0.1
        ticket.finished = True
    assert admission.throughput.seconds_per_face == pytest.approx(0.1)


def test_admission_bounds_requests_and_faces() -> None:
    refused: list[str] = []
    admission = Admission(2, 7, 10**6, 5, refused.append)
    with admission.admit(float("inf")) as ticket:
        ticket.faces = 7
        with pytest.raises(Problem), admission.admit(float("inf")):
            pass
        ticket.faces = 1
        with admission.admit(float("inf")), pytest.raises(Problem), admission.admit(float("inf")):
            pass
    admission.draining = True
    with pytest.raises(Problem) as caught, admission.admit(float("inf")):
        pass
    assert caught.value.kind is DRAINING
    assert refused == ["queue", "requests", "draining"]


def test_only_finished_work_sets_the_pace() -> None:
    """What fails, is late or is wrong has not been worked on to the end; a picture without a face has."""
    clock = Clock()
    admission = Admission(2, 7, 10**6, 5, clock=clock)
    admission.throughput.assume(1.0)

    def work(error: Exception | None) -> float:
        with contextlib.suppress(ValueError, Problem), admission.admit(float("inf")) as ticket:
            admission.start(ticket, float("inf"))
            clock.now += 3
            if error:
                raise error
            ticket.finished = True
        return admission.throughput.seconds_per_face

    assert work(ValueError()) == work(Problem(DEADLINE_EXCEEDED, "late")) == work(Problem(INVALID_OPTION, "3")) == 1.0
    assert 1.5 < work(None) < work(Problem(NO_FACE, "nobody"))


async def _budget_keeps_its_bound() -> None:
    budget, inside, most = PixelBudget(100), 0, 0

    async def hold(pixels: int, turns: int) -> None:
        nonlocal inside, most
        async with budget.hold(pixels):
            inside += pixels
            most = max(most, inside)
            try:
                for _ in range(turns):
                    await asyncio.sleep(0)
            finally:
                inside -= pixels

    tasks = [asyncio.create_task(hold(10 + 7 * i % 60, i % 5)) for i in range(50)]
    await asyncio.sleep(0)
    for task in tasks[3::7]:
        task.cancel()
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert 60 < most <= 100
    # Cancelled waiters gave back what they held: the whole is free again, and more than the whole counts as the whole.
    async with asyncio.timeout(5), budget.hold(500):
        pass


def test_pixel_budget() -> None:
    asyncio.run(_budget_keeps_its_bound())


async def _budget_is_fair() -> None:
    budget, order = PixelBudget(10), []

    async def hold(name: str, pixels: int) -> None:
        async with budget.hold(pixels):
            order.append(name)
            await asyncio.sleep(0.01)

    await asyncio.gather(hold("first", 8), hold("large", 10), hold("small", 1))
    assert order == ["first", "large", "small"]


def test_a_large_picture_is_not_starved_by_small_ones() -> None:
    asyncio.run(_budget_is_fair())


def test_uploads_are_bounded_together_and_one_alone_is_let_in() -> None:
    refused: list[str] = []
    admission = Admission(9, 9, 100, 5, refused.append)
    with admission.admit(float("inf")) as first:
        admission.receive(first, 150)
        with admission.admit(float("inf")) as second:
            with pytest.raises(Problem) as caught:
                admission.receive(second, 1)
            assert caught.value.kind is OVERLOADED
    with admission.admit(float("inf")) as third:
        admission.receive(third, 60)
        with admission.admit(float("inf")) as fourth:
            admission.receive(fourth, 40)
    assert refused == ["uploads"]


def test_the_slowest_upload_gives_way_when_all_places_are_taken() -> None:
    clock, refused = Clock(), []
    admission = Admission(3, 100, 10**9, 5, refused.append, clock)
    with (
        admission.admit(clock.now + 60) as fast,
        admission.admit(clock.now + 60) as slow,
        admission.admit(clock.now + 60) as slowest,
    ):
        clock.now += 4
        with pytest.raises(Problem, match="as many as may be"), admission.admit(clock.now + 60):
            pass
        clock.now += 4
        for ticket, brought in ((fast, 600_000), (slow, 400_000), (slowest, 300_000)):
            admission.receive(ticket, brought)
        with admission.admit(clock.now + 60):
            assert admission.requests == 3
            with pytest.raises(Problem, match="this upload is slow") as caught:
                admission.receive(slowest, 0)
            assert caught.value.kind is OVERLOADED
            admission.start(slow, clock.now + 60)
            with pytest.raises(Problem, match="as many as may be"), admission.admit(clock.now + 60):
                pass
    assert refused == ["requests", "slow", "requests"]


@pytest.mark.parametrize(("most_requests", "most_faces"), [(1, 64), (64, 1)])
def test_a_slow_upload_holds_neither_a_request_nor_a_face(most_requests: int, most_faces: int) -> None:
    clock = Clock()
    admission = Admission(most_requests, most_faces, 10**9, 5, clock=clock)
    with admission.admit(clock.now + 60) as slow:
        clock.now += 8
        with admission.admit(clock.now + 60):
            assert slow.gives_way and (admission.requests, admission.faces) == (1, 1)


def test_nobody_gives_way_to_a_request_that_is_refused_all_the_same() -> None:
    clock, refused = Clock(), []
    admission = Admission(2, 64, 10**9, 5, refused.append, clock)
    admission.throughput.assume(2.0)
    with admission.admit(clock.now + 60) as slow, admission.admit(clock.now + 60) as work:
        admission.start(work, clock.now + 60)
        clock.now += 8
        for faces, deadline in ((5, 1), (64, 1000)):
            work.faces = faces
            with pytest.raises(Problem), admission.admit(clock.now + deadline):
                pass
        admission.receive(slow, 1000)
    assert refused == ["wait", "requests"]
