"""Many clients at once: fairness, the queue, deadlines, clients that leave or stall."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from models.picture import Picture, PictureLimits, decode
from tests.service.running import (
    ALIGNED_PHOTO,
    ANNA_PHOTO,
    Running,
    Steerable,
    problem,
    running,
    toy_engine,
    until,
)


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


def test_a_slow_upload_gives_its_place_to_who_brings_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.admission._SLOW_S", 0.1)
    with running(max_requests=1) as toy:
        with socket.create_connection(("127.0.0.1", int(toy.url.rsplit(":", 1)[1]))) as connection:
            connection.sendall(
                b"POST /restore HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
                b"Content-Length: 1000\r\n\r\n--b\r\n"
            )
            until(lambda: toy.service.admission.requests == 1)
            until(lambda: toy.client.post("/restore", files={"image": ANNA_PHOTO}).status_code == 200)
            connection.settimeout(10)
            assert b"429" in connection.recv(100)
        assert toy.metric('honestface_rejections_total{reason="slow"}') == 1


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
