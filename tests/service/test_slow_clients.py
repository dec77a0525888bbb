"""A toy application on uvicorn, spoken to by hand; heads have 0.3 s and takers one, and all else takes longer."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from service import slow_clients
from service.slow_clients import ImpatientProtocol
from tests.service.running import until

PATIENCE, TAKE_S = 0.3, 1.0
HEAD = b"POST / HTTP/1.1\r\nHost: toy\r\nContent-Length: 4\r\n\r\n"


LARGE = 40_000_000  # more than the kernel keeps for a connection


async def slow_echo(scope: Any, receive: Any, send: Any) -> None:
    body, more = b"", scope["method"] != "PUT"
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await asyncio.sleep(2 * PATIENCE if body == b"slow" else 0)
    body = bytes(LARGE) if body == b"much" else body
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    monkeypatch.setattr(slow_clients, "HEAD_S", PATIENCE)
    monkeypatch.setattr(slow_clients, "TAKE_S", TAKE_S)
    config = uvicorn.Config(slow_echo, port=0, http=ImpatientProtocol, loop="asyncio", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        with socket.create_connection(server.servers[0].sockets[0].getsockname()) as opened:
            opened.settimeout(20)
            yield opened
    finally:
        server.should_exit = True
        thread.join()


def answer(connection: socket.socket) -> bytes:
    """The body of the next answer, of four bytes; empty where the connection was closed instead."""
    received = b""
    while b"\r\n\r\n" not in received or len(received.partition(b"\r\n\r\n")[2]) < 4:
        if not (data := connection.recv(4096)):
            return b""
        received += data
    return received.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("sent", [b"", HEAD[:20]])
def test_who_sends_no_whole_head_is_let_go(connection: socket.socket, sent: bytes) -> None:
    started = time.monotonic()
    connection.sendall(sent)
    assert connection.recv(100) == b""
    assert time.monotonic() - started > 0.5 * PATIENCE


def test_a_head_that_trickles_does_not_begin_anew(connection: socket.socket) -> None:
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        for byte in HEAD[:-2] * 10:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)


def test_half_a_second_head(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"fast")
    assert answer(connection) == b"fast"
    connection.sendall(HEAD[:20])
    assert connection.recv(100) == b""


def test_uploads_and_answers_take_their_time(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"sl")
    time.sleep(2 * PATIENCE)
    connection.sendall(b"ow")
    assert answer(connection) == b"slow"
    time.sleep(2 * PATIENCE)
    connection.sendall(HEAD + b"fast")
    assert answer(connection) == b"fast", "kept alive between requests by uvicorn's own limit of 5 s"


def test_the_rest_of_a_body_that_was_answered_before_it_came(connection: socket.socket) -> None:
    connection.sendall(HEAD.replace(b"POST", b"PUT"))
    assert b"200" in connection.recv(4096)
    connection.sendall(b"f")
    assert connection.recv(100) == b""


def received(connection: socket.socket, pause: float) -> int:
    """Bytes until the end, a megabyte at a time with a pause before each."""
    total = 0
    with contextlib.suppress(ConnectionResetError):
        while total < LARGE:
            time.sleep(pause)
            if not (data := connection.recv(1_000_000)):
                break
            total += len(data)
    return total


def test_an_answer_that_nobody_takes_is_given_up(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"much")
    time.sleep(3 * TAKE_S)
    assert received(connection, 0) < LARGE


def test_an_answer_that_is_taken_slowly_is_not(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"much")
    started = time.monotonic()
    assert received(connection, 0.06) >= LARGE
    assert time.monotonic() - started > 2 * TAKE_S
