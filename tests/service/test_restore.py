import base64
import email
import email.policy
import json
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
import torch

from models.picture import Picture, PictureLimits, decode
from service.keys import hash_key
from tests.service.running import (
    ALIGNED_PHOTO,
    ANNA_PHOTO,
    EMPTY_PHOTO,
    Running,
    Steerable,
    file_of,
    pixels_of,
    running,
    toy_engine,
    until,
)
from tests.toy_faces import ANNA, BEN, photo


@pytest.fixture(scope="module")
def toy() -> Iterator[Running]:
    with running() as service:
        yield service


def problem(response: httpx.Response, name: str, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["type"] == f"urn:honestface:problem:{name}"
    assert document["request_id"] == response.headers["x-request-id"]
    assert document["status"] == status
    return str(document["detail"])


def brightening(before: bytes, after: bytes) -> float:
    return float((pixels_of(after).astype(float) - pixels_of(before)).max() / 127.5)


def test_answers_the_picture(toy: Running) -> None:
    response = toy.client.post("/restore", files={"image": ANNA_PHOTO})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/png"
    before, after = pixels_of(ANNA_PHOTO), pixels_of(response.content)
    assert after.shape == before.shape
    assert not np.array_equal(before, after)
    assert np.array_equal(before[:, :100], after[:, :100]), "outside of the face nothing changes"


def test_references_reach_the_face(toy: Running) -> None:
    plain = {"color_fix": "none"}
    blind = toy.client.post("/restore", files={"image": ANNA_PHOTO}, data=plain).content
    files = [("image", ANNA_PHOTO), ("references", ANNA_PHOTO), ("references", ALIGNED_PHOTO)]
    guided = toy.client.post("/restore", files=files, data=plain).content
    gain = brightening(ANNA_PHOTO, guided) - brightening(ANNA_PHOTO, blind)
    assert gain == pytest.approx(0.08, abs=0.02)


def test_strength_zero_leaves_the_face(toy: Running) -> None:
    response = toy.client.post("/restore", files={"image": ALIGNED_PHOTO}, data={"strength": "0", "faces": "aligned"})
    assert brightening(ALIGNED_PHOTO, response.content) < 0.03


def test_all_faces(toy: Running) -> None:
    two = file_of(photo(((120.0, 120.0), 200.0, ANNA), ((350.0, 130.0), 160.0, BEN)))
    document = toy.client.post(
        "/restore", files={"image": two}, data={"faces": "all"}, headers={"accept": "application/json"}
    ).json()
    assert len(document["faces"]) == 2
    x0, y0, x1, y1 = document["faces"][0]["box"]
    assert x0 < 120 < x1 and y0 < 120 < y1
    assert len(document["faces"][0]["landmarks"]) == 68


@pytest.mark.parametrize(("name", "kind"), [("png", "image/png"), ("jpeg", "image/jpeg"), ("webp", "image/webp")])
def test_formats_by_option_accept_and_upload(toy: Running, name: str, kind: str) -> None:
    by_option = toy.client.post("/restore", files={"image": ANNA_PHOTO}, data={"format": name})
    by_accept = toy.client.post("/restore", files={"image": ANNA_PHOTO}, headers={"accept": kind})
    uploaded = file_of(pixels_of(ANNA_PHOTO), name.upper())
    by_upload = toy.client.post("/restore", files={"image": uploaded})
    for response in (by_option, by_accept, by_upload):
        assert response.headers["content-type"] == kind
        assert pixels_of(response.content).shape == (360, 480, 3)


def test_quality(toy: Running) -> None:
    sizes = [
        len(toy.client.post("/restore", files={"image": ANNA_PHOTO}, data={"format": "jpeg", "quality": q}).content)
        for q in ("30", "95")
    ]
    assert sizes[0] < sizes[1]


def test_json_document(toy: Running) -> None:
    response = toy.client.post(
        "/restore",
        files=[("image", ANNA_PHOTO), ("references", ANNA_PHOTO)],
        data={"diagnostics": "full"},
        headers={"accept": "application/json", "x-request-id": "my-id.1"},
    )
    document = response.json()
    assert response.headers["x-request-id"] == document["request_id"] == "my-id.1"
    assert document["model"] == {"bundle": "toy", "version": "1", "profile": "tiny"}
    assert (document["picture"]["width"], document["picture"]["height"]) == (480, 360)
    assert pixels_of(base64.b64decode(document["picture"]["base64"])).shape == (360, 480, 3)
    report = document["faces"][0]["report"]
    assert report["chosen_reference"] == 0
    assert report["landmark_distance"]["unit"]
    assert base64.b64decode(report["change_map"]["png"]).startswith(b"\x89PNG")


@pytest.mark.parametrize(("diagnostics", "has_report"), [("none", False), ("summary", True), ("", True)])
def test_diagnostics(toy: Running, diagnostics: str, has_report: bool) -> None:
    response = toy.client.post(
        "/restore",
        files={"image": ANNA_PHOTO},
        data={"diagnostics": diagnostics},
        headers={"accept": "application/json"},
    )
    face = response.json()["faces"][0]
    assert ("report" in face) == has_report
    assert "change_map" not in face.get("report", {})


def test_multipart_mixed(toy: Running) -> None:
    response = toy.client.post("/restore", files={"image": ANNA_PHOTO}, headers={"accept": "multipart/mixed"})
    head = f"Content-Type: {response.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + response.content, policy=email.policy.HTTP)
    document, picture = message.iter_parts()  # type: ignore[attr-defined]
    assert "base64" not in json.loads(document.get_content())["picture"]
    alone = toy.client.post("/restore", files={"image": ANNA_PHOTO}).content
    assert picture.get_content() == alone


def test_server_timing_names_every_stage(toy: Running) -> None:
    response = toy.client.post("/restore", files={"image": ANNA_PHOTO})
    stages = dict(part.split(";dur=") for part in response.headers["server-timing"].split(", "))
    assert list(stages) == ["queue", "decode", "align", "device", "encode"]
    assert all(0 <= float(value) < 5000 for value in stages.values())


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"faces": "some"}, "faces"),
        ({"strength": "1.1"}, "strength"),
        ({"strength": "nan"}, "strength"),
        ({"color_fix": "x"}, "color_fix"),
        ({"seed": "-1"}, "seed"),
        ({"seed": "0.5"}, "seed"),
        ({"format": "bmp"}, "format"),
        ({"quality": "0"}, "quality"),
        ({"diagnostics": "all"}, "diagnostics"),
        ({"colour_fix": "none"}, "colour_fix"),
    ],
)
def test_wrong_options_are_named(toy: Running, data: dict[str, str], named: str) -> None:
    response = toy.client.post("/restore", files={"image": ANNA_PHOTO}, data=data)
    assert named in problem(response, "invalid-option", 422)


def test_wrong_pictures(toy: Running) -> None:
    def post(image: bytes) -> httpx.Response:
        return toy.client.post("/restore", files={"image": image})

    assert "no face" in problem(post(EMPTY_PHOTO), "no-face", 422)
    assert "empty" in problem(post(b""), "invalid-picture", 422)
    problem(post(b"just text"), "unsupported-media-type", 415)
    assert "truncated" in problem(post(ANNA_PHOTO[: len(ANNA_PHOTO) // 2]), "invalid-picture", 422)
    wide = file_of(np.zeros((4000, 17000, 3), np.uint8))
    assert "17000x4000" in problem(post(wide), "picture-too-large", 413)


def test_wrong_references_are_told_by_number(toy: Running) -> None:
    def post(reference: bytes) -> httpx.Response:
        files = [("image", ANNA_PHOTO), ("references", ANNA_PHOTO), ("references", reference)]
        return toy.client.post("/restore", files=files)

    response = post(EMPTY_PHOTO)
    assert problem(response, "invalid-reference", 422).startswith("reference 2: no face")
    assert response.json()["reference"] == 1
    assert problem(post(b"text"), "unsupported-media-type", 415).startswith("reference 2: ")
    assert problem(post(ANNA_PHOTO[:300]), "invalid-reference", 422).startswith("reference 2: ")


def test_wrong_requests(toy: Running) -> None:
    def post(**how: object) -> httpx.Response:
        return toy.client.post("/restore", **how)  # type: ignore[arg-type]

    assert "image" in problem(post(files={"references": ANNA_PHOTO}), "invalid-request", 400)
    problem(post(json={"image": "x"}), "unsupported-media-type", 415)
    problem(post(), "unsupported-media-type", 415)
    problem(post(content=b"x", headers={"content-type": "multipart/form-data"}), "invalid-request", 400)
    cut = post(content=b"--b\r\nContent-Dis", headers={"content-type": "multipart/form-data; boundary=b"})
    problem(cut, "invalid-request", 400)
    problem(
        post(content=b"no boundary", headers={"content-type": "multipart/form-data; boundary=b"}),
        "invalid-request",
        400,
    )
    problem(post(files=[("image", ANNA_PHOTO), ("image", ANNA_PHOTO)]), "too-many-parts", 422)
    problem(post(files={"image": ANNA_PHOTO}, headers={"accept": "text/html"}), "not-acceptable", 406)
    problem(post(files={"image": ANNA_PHOTO}, headers={"x-request-timeout": "soon"}), "invalid-request", 400)
    problem(post(files={"image": ANNA_PHOTO}, data={"reference_set": "x"}), "reference-set-not-found", 404)
    both = post(files={"image": ANNA_PHOTO, "references": ANNA_PHOTO}, data={"reference_set": "x"})
    assert "either" in problem(both, "invalid-option", 422)


def test_unknown_paths_and_methods_are_problems(toy: Running) -> None:
    problem(toy.client.get("/nothing"), "not-found", 404)
    response = toy.client.get("/restore")
    problem(response, "method-not-allowed", 405)
    assert response.headers["allow"] == "POST"


def test_upload_limits() -> None:
    with running(max_file_bytes=20_000, max_request_bytes=50_000, max_references=1) as toy:
        large = {"image": b"\xff" * 30_000}
        assert "image" in problem(toy.client.post("/restore", files=large), "too-large", 413)
        many = [("image", b"x" * 19_000), ("references", b"x" * 19_000), ("references", b"")]
        problem(toy.client.post("/restore", files=many), "too-many-parts", 422)
        declared = toy.client.post("/restore", content=b"x" * 60_000, headers={"content-type": "multipart/form-data"})
        problem(declared, "too-large", 413)

        def endless() -> Iterator[bytes]:
            yield b'--b\r\nContent-Disposition: form-data; name="seed"\r\n\r\n'
            yield from (b"1" * 1000 for _ in range(100))

        headers = {"content-type": "multipart/form-data; boundary=b"}
        problem(toy.client.post("/restore", content=endless(), headers=headers), "too-large", 413)
        assert toy.service.admission.requests == 0


def test_api_keys() -> None:
    with running(api_keys=(hash_key("one"), hash_key("two"))) as toy:
        for headers in ({}, {"authorization": "Bearer three"}, {"x-api-key": ""}, {"authorization": "Basic one"}):
            response = toy.client.post("/restore", files={"image": ANNA_PHOTO}, headers=headers)
            problem(response, "unauthorized", 401)
            assert response.headers["www-authenticate"] == "Bearer"
        for headers in ({"authorization": "Bearer one"}, {"x-api-key": "two"}):
            assert toy.client.post("/restore", files={"image": ANNA_PHOTO}, headers=headers).status_code == 200
        assert toy.client.get("/readyz").status_code == 200
        files, one, two = {"references": ANNA_PHOTO}, {"x-api-key": "one"}, {"x-api-key": "two"}
        assert toy.client.put("/reference-sets/a", files=files, headers=one).status_code == 200
        problem(toy.client.get("/reference-sets/a", headers=two), "reference-set-not-found", 404)


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


def test_many_clients_at_once_get_what_one_gets_alone(toy: Running) -> None:
    def ask(index: int) -> bytes:
        options = {"strength": str(index % 5 / 4), "faces": "aligned" if index % 2 else "largest"}
        files = [("image", ALIGNED_PHOTO if index % 2 else ANNA_PHOTO)]
        files += [("references", ANNA_PHOTO)] * (index % 3)
        response = httpx.post(toy.url + "/restore", files=files, data=options, timeout=60)
        assert response.status_code == 200, response.text
        return response.content

    alone = [ask(index) for index in range(12)]
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, range(12))) == alone


def test_a_full_house_answers_429_with_retry_after() -> None:
    generator = Steerable()
    with running(lambda: toy_engine(generator), max_requests=2) as toy:
        generator.gate.clear()
        with ThreadPoolExecutor(2) as pool:
            asked = [
                pool.submit(httpx.post, toy.url + "/restore", files={"image": ANNA_PHOTO}, timeout=30) for _ in "ab"
            ]
            until(lambda: toy.service.admission.requests == 2)
            response = toy.client.post("/restore", files={"image": ANNA_PHOTO})
            problem(response, "overloaded", 429)
            assert int(response.headers["retry-after"]) >= 1
            generator.gate.set()
            assert [each.result().status_code for each in asked] == [200, 200]
        assert toy.client.post("/restore", files={"image": ANNA_PHOTO}).status_code == 200
        assert toy.metric('honestface_rejections_total{reason="requests"}') == 1


def test_a_wait_past_the_deadline_is_refused_at_once() -> None:
    generator = Steerable()
    with running(lambda: toy_engine(generator)) as toy:
        generator.gate.clear()
        toy.service.admission.throughput.assume(20.0)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(httpx.post, toy.url + "/restore", files={"image": ANNA_PHOTO}, timeout=30)
            until(lambda: toy.service.admission.requests == 1)
            response = toy.client.post("/restore", files={"image": ANNA_PHOTO}, headers={"x-request-timeout": "10"})
            assert "20.0 s" in problem(response, "overloaded", 429)
            assert response.headers["retry-after"] == "20"
            generator.gate.set()
            assert asked.result().status_code == 200


def test_the_deadline_answers_504_and_the_device_is_spared() -> None:
    generator = Steerable()
    with running(lambda: toy_engine(generator)) as toy:
        generator.gate.clear()
        calls = generator.calls
        with ThreadPoolExecutor(2) as pool:
            late = [
                pool.submit(
                    httpx.post,
                    toy.url + "/restore",
                    files={"image": ANNA_PHOTO},
                    headers={"x-request-timeout": "0.7"},
                    timeout=30,
                )
                for _ in "ab"
            ]
            for each in late:
                problem(each.result(), "deadline-exceeded", 504)
        generator.gate.set()
        assert toy.client.post("/restore", files={"image": ANNA_PHOTO}).status_code == 200
        assert generator.calls <= calls + 2, "one that was on the device already, and the good one"


def test_a_client_that_leaves_costs_nothing_more() -> None:
    generator = Steerable()
    with running(lambda: toy_engine(generator)) as toy:
        generator.gate.clear()
        calls = generator.calls
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(httpx.post, toy.url + "/restore", files={"image": ANNA_PHOTO}, timeout=30)
            until(lambda: generator.calls == calls + 1)
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(toy.url + "/restore", files={"image": ANNA_PHOTO}, timeout=0.5)
            until(lambda: toy.service.admission.requests == 1)
            generator.gate.set()
            assert first.result().status_code == 200
        assert toy.client.post("/restore", files={"image": ANNA_PHOTO}).status_code == 200
        assert generator.calls == calls + 2
        assert toy.metric('honestface_cancellations_total{reason="disconnected"}') == 1
        assert toy.metric('honestface_requests_total{code="499",method="POST",route="/restore"}') == 1


def test_an_upload_that_stalls_is_given_up() -> None:
    with running(upload_idle_s=0.2) as toy:
        with socket.create_connection(("127.0.0.1", int(toy.url.rsplit(":", 1)[1]))) as connection:
            connection.sendall(
                b"POST /restore HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
                b"Content-Length: 1000\r\n\r\n--b\r\n"
            )
            connection.settimeout(10)
            assert b"408" in connection.recv(100)
        until(lambda: toy.service.admission.requests == 0)


def test_a_batch_that_does_not_fit_is_halved_and_everybody_is_answered() -> None:
    generator = Steerable()
    with running(lambda: toy_engine(generator), max_batch=4) as toy, ThreadPoolExecutor(5) as pool:

        def ask(strength: float) -> bytes:
            answer = httpx.post(
                toy.url + "/restore", files={"image": ANNA_PHOTO}, data={"strength": strength}, timeout=30
            )
            assert answer.status_code == 200, answer.text
            return answer.content

        alone = [ask(index / 4) for index in range(5)]
        generator.gate.clear()
        calls = generator.calls
        first = pool.submit(ask, 1.0)
        until(lambda: generator.calls == calls + 1)
        four = [pool.submit(ask, index / 4) for index in range(4)]
        until(lambda: toy.service.pipeline.batcher.waiting == 4)
        generator.failures += [MemoryError("short"), MemoryError("short")]
        # The first face passes, the batch of four fails, so does its first half.
        generator.skip = 1
        generator.gate.set()
        assert [each.result() for each in four] == alone[:4] and first.result() == alone[4]
        assert toy.metric("honestface_out_of_memory_total") == 2
        assert toy.metric('honestface_batches_total{reason="halved"}') == 3


def test_a_silent_device_thread_turns_livez_to_503_until_it_speaks_again() -> None:
    generator = Steerable()
    with running(lambda: toy_engine(generator), stall_s=1.5) as toy, ThreadPoolExecutor(1) as pool:
        assert toy.client.get("/livez").status_code == 200
        generator.gate.clear()
        asked = pool.submit(httpx.post, toy.url + "/restore", files={"image": ANNA_PHOTO}, timeout=30)
        until(lambda: toy.client.get("/livez").status_code == 503)
        generator.gate.set()
        assert asked.result().status_code == 200
        assert toy.client.get("/livez").status_code == 200


def test_a_slow_decode_holds_nobody_else_up(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = threading.Event()

    def slowly(data: bytes, limits: PictureLimits) -> Picture:
        assert data != ALIGNED_PHOTO or opened.wait(30)
        return decode(data, limits)

    monkeypatch.setattr("service.restoration.decode", slowly)
    with running() as toy, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(httpx.post, toy.url + "/restore", files={"image": ALIGNED_PHOTO}, timeout=30)
        until(lambda: toy.service.admission.requests == 1)
        assert toy.client.post("/restore", files={"image": ANNA_PHOTO}).status_code == 200
        assert not slow.done()
        opened.set()
        assert slow.result().status_code == 200


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


def test_memory_failures_halve_and_an_exception_fails_its_batch_only() -> None:
    generator = Steerable()
    with running(lambda: toy_engine(generator)) as toy:

        def status() -> int:
            return toy.client.post("/restore", files={"image": ANNA_PHOTO}).status_code

        generator.failures.append(torch.OutOfMemoryError("short"))
        problem(toy.client.post("/restore", files={"image": ANNA_PHOTO}), "out-of-memory", 503)
        assert status() == 200
        generator.failures.append(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))
        problem(toy.client.post("/restore", files={"image": ANNA_PHOTO}), "out-of-memory", 503)
        assert status() == 200
        generator.failures.append(ValueError("broken"))
        response = toy.client.post("/restore", files={"image": ANNA_PHOTO})
        assert "broken" not in problem(response, "internal-error", 500)
        assert status() == 200
        assert toy.metric("honestface_out_of_memory_total") == 2


def test_probes_while_starting() -> None:
    gate = threading.Event()

    def slowly() -> object:
        gate.wait(10)
        return toy_engine()

    with running(slowly, wait=False) as toy:  # type: ignore[arg-type]
        assert [toy.client.get(f"/{probe}").status_code for probe in ("livez", "startupz", "readyz")] == [200, 503, 503]
        assert toy.client.get("/health").json()["status"] == "starting"
        response = toy.client.post("/restore", files={"image": ANNA_PHOTO})
        problem(response, "not-ready", 503)
        assert response.headers["retry-after"]
        problem(toy.client.get("/models"), "not-ready", 503)
        gate.set()
        until(lambda: toy.client.get("/readyz").status_code == 200)
        assert toy.client.get("/startupz").status_code == 200


def test_a_dead_device_ends_the_process() -> None:
    generator = Steerable()
    with running(lambda: toy_engine(generator), death_grace_s=0.5) as toy:
        generator.failures.append(torch.AcceleratorError("CUDA error: an illegal memory access was encountered"))
        problem(toy.client.post("/restore", files={"image": ANNA_PHOTO}), "device-failed", 503)
        assert toy.client.get("/livez").status_code == 503
        assert toy.client.get("/readyz").status_code == 503
        assert toy.client.get("/health").json()["status"] == "failed"
        problem(toy.client.post("/restore", files={"image": ANNA_PHOTO}), "device-failed", 503)
        toy.thread.join(10)
        assert not toy.thread.is_alive()


def test_draining_finishes_work_and_refuses_new() -> None:
    generator = Steerable()
    with running(lambda: toy_engine(generator), drain_s=10) as toy:
        generator.gate.clear()
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(httpx.post, toy.url + "/restore", files={"image": ANNA_PHOTO}, timeout=30)
            until(lambda: toy.service.admission.requests == 1)
            toy.server.handle_exit(15, None)
            assert toy.client.get("/readyz").status_code == 503
            assert toy.client.get("/livez").status_code == 200
            response = toy.client.post("/restore", files={"image": ANNA_PHOTO})
            problem(response, "draining", 503)
            assert response.headers["retry-after"]
            generator.gate.set()
            assert asked.result().status_code == 200
        toy.thread.join(10)
        assert not toy.thread.is_alive() and toy.service.death is None


def test_models_health_and_metrics(toy: Running) -> None:
    model = toy.client.get("/models").json()["models"][0]
    assert model["bundle"] == "toy" and model["digests"] == {"unet.safetensors": "0" * 64}
    health = toy.client.get("/health").json()
    assert health["status"] == "ready" and health["limits"]["references"] == 16 and not health["api_key_required"]
    toy.client.get("/someone-private")
    text = toy.client.get("/metrics").text
    assert "someone-private" not in text
    assert 'route="other"' in text
    names = {line.split(" ")[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert names and all(name.startswith("honestface_") for name in names)
    assert toy.metric("honestface_ready") == 1


def test_no_cross_origin_calls_unless_allowed(toy: Running) -> None:
    asked = {"origin": "https://elsewhere.example", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in toy.client.options("/restore", headers=asked).headers
    with running(cors_origins="https://elsewhere.example") as open_service:
        answer = open_service.client.options("/restore", headers=asked)
        assert answer.headers["access-control-allow-origin"] == "https://elsewhere.example"
