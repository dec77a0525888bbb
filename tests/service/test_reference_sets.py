"""Sets of references sent once, and references that were seen before."""

import threading
import time
import weakref

import pytest

from models.picture import Picture, PictureLimits, decode
from tests.service.running import (
    ALIGNED_PHOTO,
    ANNA_PHOTO,
    EMPTY_PHOTO,
    Running,
    file_of,
    problem,
    running,
)
from tests.toy_faces import ANNA, BEN, photo


def test_reference_sets(toy: Running) -> None:
    files = [("references", ANNA_PHOTO), ("references", ALIGNED_PHOTO)]
    document = toy.client.put("/reference-sets/anna", files=files).json()
    assert (document["id"], document["references"], document["ttl_seconds"]) == ("anna", 2, 3600)
    assert toy.client.get("/reference-sets/anna").json()["references"] == 2
    sent = toy.client.post("/restore", files=[("image", ANNA_PHOTO), *files]).content
    by_name = toy.client.post("/restore", files={"image": ANNA_PHOTO}, data={"reference_set": "anna"}).content
    assert by_name == sent
    assert toy.client.delete("/reference-sets/anna").status_code == 204
    problem(toy.client.delete("/reference-sets/anna"), "reference-set-not-found", 404)
    problem(toy.client.put("/reference-sets/a%20b", files=files), "invalid-request", 400)
    problem(toy.client.put("/reference-sets/b", files={"references": EMPTY_PHOTO}), "invalid-reference", 422)
    empty = toy.client.put(
        "/reference-sets/b", content=b"--b--\r\n", headers={"content-type": "multipart/form-data; boundary=b"}
    )
    problem(empty, "invalid-request", 400)


@pytest.mark.parametrize(("name", "status"), [("%2E", 400), ("%2E%2E", 400), ("...", 404), (".a", 404)])
def test_names_that_clients_take_for_a_place_in_a_path(toy: Running, name: str, status: int) -> None:
    kind = "invalid-request" if status == 400 else "reference-set-not-found"
    problem(toy.client.get(f"/reference-sets/{name}"), kind, status)


def test_reference_sets_expire() -> None:
    with running(reference_set_ttl_s=0.2) as toy:
        toy.client.put("/reference-sets/anna", files={"references": ANNA_PHOTO})
        assert toy.client.get("/reference-sets/anna").status_code == 200
        time.sleep(0.3)
        problem(toy.client.get("/reference-sets/anna"), "reference-set-not-found", 404)
        assert toy.metric("honestface_reference_sets") == 0
        assert toy.metric("honestface_reference_sets_bytes") == 0


def test_references_are_analysed_once(toy: Running) -> None:
    def lookups(result: str) -> float:
        return toy.metric(f'honestface_reference_cache_lookups_total{{result="{result}"}}')

    fresh = file_of(photo(((200.0, 180.0), 180.0, BEN)))
    before = lookups("hit"), lookups("miss")
    for _ in range(3):
        toy.client.post("/restore", files={"image": ANNA_PHOTO, "references": fresh})
    assert (lookups("hit") - before[0], lookups("miss") - before[1]) == (2, 1)


def test_only_so_many_references_are_in_memory_as_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    lock, held, most = threading.Lock(), 0, 0

    def counted(data: bytes, limits: PictureLimits) -> Picture:
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        picture = decode(data, limits)

        def gone() -> None:
            nonlocal held
            with lock:
                held -= 1

        weakref.finalize(picture.pixels, gone)
        return picture

    monkeypatch.setattr("service.restoration.decode", counted)
    files = [("references", file_of(photo(((200.0, 180.0), 150.0 + index, ANNA)))) for index in range(12)]
    with running(cpu_workers=2) as toy:
        assert toy.client.put("/reference-sets/many", files=files).status_code == 200
    assert 1 <= most <= 4, "two at work, and two that the next ones have just taken over from"
