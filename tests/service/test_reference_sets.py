"""Sets of references sent once, and references that were seen before."""

import asyncio
import threading
import time
import weakref

import pytest
import torch

from models.picture import Picture, PictureLimits, decode
from models.references import Reference
from service.keys import hash_key
from service.metrics import Metrics
from service.ray_reference_sets import SharedReferenceSets
from service.reference_sets import ReferenceSet, ReferenceStore
from service.settings import Settings
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


def test_a_file_given_several_times_is_kept_once(toy: Running) -> None:
    def size(*files: bytes) -> float:
        answer = toy.client.put("/reference-sets/same", files=[("references", file) for file in files])
        assert answer.json()["references"] == toy.client.get("/reference-sets/same").json()["references"]
        assert answer.json()["references"] == len(set(files))
        return toy.metric("honestface_reference_sets_bytes")

    fresh = file_of(photo(((210.0, 180.0), 170.0, BEN)))
    one, two = size(ANNA_PHOTO), size(ANNA_PHOTO, ALIGNED_PHOTO)
    assert size(fresh, fresh, fresh) == one, "all three are analysed side by side"
    assert size(fresh, ANNA_PHOTO, fresh, ANNA_PHOTO) == two
    report = toy.client.post(
        "/restore",
        files={"image": ANNA_PHOTO},
        data={"reference_set": "same"},
        headers={"accept": "application/json"},
    ).json()["faces"][0]["report"]
    assert len(report["references"]) == 2
    refused = toy.client.put("/reference-sets/same", files=[("references", f) for f in (fresh, fresh, EMPTY_PHOTO)])
    assert problem(refused, "invalid-reference", 422).startswith("reference 3: ") and refused.json()["reference"] == 2


def test_one_key_does_not_push_out_what_another_has_uploaded() -> None:
    keys = ("a", "b")
    with running(api_keys=tuple(map(hash_key, keys)), reference_sets_bytes=13_000_000) as toy:  # four references

        def status(method: str, key: str, name: str) -> int:
            files = {"references": ANNA_PHOTO} if method == "PUT" else None
            headers = {"x-api-key": key}
            return toy.client.request(method, f"/reference-sets/{name}", files=files, headers=headers).status_code

        assert status("PUT", "a", "mine") == 200
        assert [status("PUT", "b", str(index)) for index in range(8)] == [200] * 8
        assert status("GET", "a", "mine") == 200
        assert [status("GET", "b", str(index)) for index in range(8)] == [404] * 5 + [200] * 3


def reference() -> Reference:
    return Reference(torch.zeros(3, 16, 16), torch.zeros(68, 2), torch.ones(8))


def test_one_key_does_not_push_out_another_ones_sets_on_ray_either() -> None:
    async def check() -> None:
        entry = ReferenceSet((reference(),))
        shared = SharedReferenceSets(Settings(reference_sets_bytes=4 * entry.bytes))  # type: ignore[call-arg]
        assert await shared.put(("a", "mine"), entry)
        for index in range(8):
            assert await shared.put(("b", str(index)), entry)
        assert await shared.get(("a", "mine"), None) is entry
        assert not await shared.put(("b", "large"), ReferenceSet(tuple(reference() for _ in range(5))))

    asyncio.run(check())


def test_a_reference_in_a_set_several_times_counts_once() -> None:
    one, other = reference(), reference()
    assert ReferenceSet((one, one, other)).bytes == ReferenceSet((one, other)).bytes == 2 * ReferenceSet((one,)).bytes


def test_each_caller_has_a_cache_of_its_own() -> None:
    analysed = []

    async def analyse(data: bytes) -> Reference:
        analysed.append(data)
        return reference()

    async def check() -> None:
        store = ReferenceStore(Settings(), Metrics())  # type: ignore[call-arg]
        for owner in ("a", "b", "a", "b"):
            await store.analysed(b"file", analyse, owner)

    asyncio.run(check())
    assert analysed == [b"file"] * 2


def test_what_another_key_has_sent_is_not_found_in_the_cache() -> None:
    keys = ("a", "b")
    with running(api_keys=tuple(map(hash_key, keys))) as toy:

        def hits(key: str) -> float:
            """After a reference in each of the two requests that take some."""
            name = 'honestface_reference_cache_lookups_total{result="hit"}'
            before, headers = toy.metric(name), {"x-api-key": key}
            files = {"image": ANNA_PHOTO, "references": ANNA_PHOTO}
            assert toy.client.post("/restore", files=files, headers=headers).status_code == 200
            files = {"references": ALIGNED_PHOTO}
            assert toy.client.put("/reference-sets/x", files=files, headers=headers).status_code == 200
            return toy.metric(name) - before

        assert [hits(key) for key in ("a", "b", "a", "b")] == [0, 0, 2, 2]


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

    def counted(data: bytes, limits: PictureLimits, least_side: int | None = None) -> Picture:
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        picture = decode(data, limits, least_side)

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
