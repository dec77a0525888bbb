"""What is in work at once: how many faces, how many pixels, and at what pace."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from models.picture import Picture, PictureLimits, decode
from service.admission import Admission, PixelBudget
from tests.service.running import ANNA_PHOTO, Steerable, file_of, running, toy_engine, until
from tests.toy_faces import ANNA, BEN, photo


def test_a_picture_in_work_counts_with_all_its_faces_and_its_enlarged_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has 0.17 megapixels, and enlarged twice 0.69, which leaves the other no room to be decoded in."""
    generator, decoded = Steerable(), []

    def counted(data: bytes, limits: PictureLimits) -> Picture:
        decoded.append(len(data))
        return decode(data, limits)

    monkeypatch.setattr("service.restoration.decode", counted)
    two = file_of(photo(((120.0, 120.0), 200.0, ANNA), ((350.0, 130.0), 160.0, BEN)))
    options = {"faces": "all", "color_fix": "none", "upscale": "2"}
    with running(lambda: toy_engine(generator), memory_megapixels=1) as toy, ThreadPoolExecutor(2) as pool:

        def ask(picture: bytes) -> int:
            return httpx.post(toy.url + "/restore", files={"image": picture}, data=options, timeout=60).status_code

        generator.gate.clear()
        asked = [pool.submit(ask, two)]
        until(lambda: toy.service.admission.faces == 2)
        asked.append(pool.submit(ask, ANNA_PHOTO))
        until(lambda: len(decoded) + len(toy.service.pipeline._pixels._queue) == 2)
        assert len(decoded) == 1
        generator.gate.set()
        assert [each.result() for each in asked] == [200, 200]


def test_a_place_in_the_queue_that_is_given_up_holds_nobody_up() -> None:
    async def hold(budget: PixelBudget, pixels: int) -> None:
        async with budget.hold(pixels):
            pass

    async def work() -> None:
        budget = PixelBudget(10)
        async with budget.hold(8):
            large, small = (asyncio.create_task(hold(budget, pixels)) for pixels in (10, 1))
            await asyncio.sleep(0)
            large.cancel()
            async with asyncio.timeout(5):
                await small

    asyncio.run(work())


def test_work_that_comes_while_other_work_is_in_hand_does_not_hide_its_time() -> None:
    now = 100.0
    admission = Admission(10, 100, 10**6, 5, clock=lambda: now)
    with admission.admit(now + 60) as second:
        with admission.admit(now + 60) as first:
            admission.start(first, now + 60)
            now += 5
            admission.start(second, now + 60)
            now += 1
            first.finished = True
        assert admission.throughput.seconds_per_face == 6
