"""What is no HTTP, sent by hand to the service."""

import http.client
import socket
from collections.abc import Iterator

import httpx
import pytest

from tests.service.running import Running, problem, until

HEAD = b"POST /restore HTTP/1.1\r\nHost: toy\r\nX-Request-Id: mine\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
TINY_CHUNKS = 2000 * b"1\r\nx\r\n"


@pytest.fixture
def connection(toy: Running) -> Iterator[socket.socket]:
    with socket.create_connection(toy.server.servers[0].sockets[0].getsockname()) as opened:
        opened.settimeout(20)
        yield opened


def answer(connection: socket.socket, method: str = "POST") -> httpx.Response:
    answered = http.client.HTTPResponse(connection, method=method)
    answered.begin()
    return httpx.Response(answered.status, headers=answered.getheaders(), content=answered.read())


@pytest.mark.parametrize(
    ("sent", "ours"),
    [
        pytest.param(b"GARBAGE\r\n\r\n", True, id="garbage"),
        pytest.param(
            HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", True, id="two lengths"
        ),
        pytest.param(CHUNKED + TINY_CHUNKS, False, id="tiny chunks"),
    ],
)
def test_a_breach_is_a_problem_and_is_counted_once(
    toy: Running, connection: socket.socket, sent: bytes, ours: bool
) -> None:
    def counted() -> float:
        method, route = ("other", "other") if ours else ("POST", "/restore")
        try:
            return toy.metric(f'honestface_requests_total{{code="400",method="{method}",route="{route}"}}')
        except KeyError:
            return 0

    before = counted()
    connection.sendall(sent)
    response = answer(connection)
    problem(response, "invalid-request", 400)
    assert ours or response.headers["x-request-id"] == "mine"
    assert response.headers["connection"] == "close" and connection.recv(1) == b""
    until(lambda: counted() == before + 1)


def test_a_breach_of_a_body_that_nobody_reads(
    toy: Running, connection: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    connection.sendall(CHUNKED.replace(b"POST /restore", b"HEAD /livez") + TINY_CHUNKS)
    response = answer(connection, "HEAD")
    assert (response.status_code, response.content) == (400, b"")
    until(lambda: toy.metric('honestface_requests_total{code="400",method="HEAD",route="/livez"}') == 1)
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


def test_a_breach_after_the_answer_only_ends_the_connection(
    connection: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    connection.sendall(CHUNKED.replace(b"/restore", b"/nowhere"))
    problem(answer(connection), "not-found", 404)
    connection.sendall(b"no chunk\r\n")
    assert connection.recv(1) == b""
    assert not [each for each in caplog.records if each.levelname == "ERROR"]
