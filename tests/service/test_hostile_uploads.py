import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.service.hostile import corpus
from tests.service.running import ANNA_PHOTO, Running, running

MANY = 2000


@pytest.fixture(scope="module")
def toy() -> Iterator[Running]:
    with running(max_megapixels=64.0, memory_megapixels=64.0, timeout_s=60.0) as service:
        yield service


@pytest.mark.slow
def test_thousands_of_hostile_uploads_are_refused_or_restored(toy: Running) -> None:
    def send(indexed: tuple[int, tuple[str, bytes]]) -> tuple[int, str]:
        index, (what, data) = indexed
        kind = random.Random(index).choice(["image/png", "image/jpeg", "text/html", "application/octet-stream"])
        name = "references" if index % 5 == 0 else "image"
        files = [(name, ("x", data, kind))] + ([("image", ("x", ANNA_PHOTO))] if name == "references" else [])
        started = time.monotonic()
        response = toy.client.post("/restore", files=files)
        assert response.status_code == 200 or response.json()["detail"], what
        assert time.monotonic() - started < 30, what
        return response.status_code, what

    process = psutil.Process()
    send((0, ("warm", ANNA_PHOTO)))
    before = process.memory_info().rss
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(send, enumerate(corpus(MANY))))
    assert len(outcomes) >= MANY
    failed = [what for status, what in outcomes if status >= 500]
    assert not failed
    statuses = Counter(status for status, _ in outcomes)
    assert set(statuses) <= {200, 413, 415, 422} and statuses[422] > 200 and statuses[413] > 3 and statuses[415] > 20
    assert process.memory_info().rss - before < 700_000_000
    assert toy.client.post("/restore", files={"image": ANNA_PHOTO}).status_code == 200
    assert toy.service.admission.requests == 0 and toy.service.pipeline.batcher.waiting == 0
