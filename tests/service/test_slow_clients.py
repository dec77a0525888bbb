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
SOME = 50_000  # less than asyncio takes for much


async def slow_echo(scope: Any, receive: Any, send: Any) -> None:
    body, more = b"", scope["method"] != "PUT"
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await asyncio.sleep(2 * PATIENCE if body == b"slow" else 0)
    body = {b"much": bytes(LARGE), b"some": bytes(SOME)}.get(body, body)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[uvicorn.Server]:
    monkeypatch.setattr(slow_clients, "HEAD_S", PATIENCE)
    monkeypatch.setattr(slow_clients, "TAKE_S", TAKE_S)
    monkeypatch.setattr(ImpatientProtocol, "answer_bytes", 10 * LARGE, raising=False)
    config = uvicorn.Config(slow_echo, port=0, http=ImpatientProtocol, loop="asyncio", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        yield server
    finally:
        server.should_exit = True
        thread.join()


def connect(server: uvicorn.Server) -> socket.socket:
    opened = socket.create_connection(server.servers[0].sockets[0].getsockname())
    opened.settimeout(20)
    return opened


@pytest.fixture
def connection(server: uvicorn.Server) -> Iterator[socket.socket]:
    with connect(server) as opened:
        yield opened


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


def test_the_last_bytes_of_an_answer_are_not_waited_for_either(server: uvicorn.Server) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(server.servers[0].sockets[0].getsockname())
        until(lambda: bool(server.server_state.connections))
        (protocol,) = server.server_state.connections
        assert isinstance(protocol, ImpatientProtocol)
        protocol.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        connection.sendall(HEAD + b"some")
        until(lambda: 0 < protocol.undelivered < 2**16)
        until(lambda: not server.server_state.connections)


def test_who_has_been_taking_answers_for_longest_makes_room(
    server: uvicorn.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_clients, "TAKE_S", 60)
    monkeypatch.setattr(ImpatientProtocol, "answer_bytes", int(1.5 * LARGE))
    first, second = connect(server), connect(server)
    with first, second:
        first.sendall(HEAD + b"much")
        until(lambda: _taking(server) == 1)
        second.sendall(HEAD + b"much")
        assert received(second, 0) >= LARGE
        assert received(first, 0) < LARGE


def _taking(server: uvicorn.Server) -> int:
    return sum(isinstance(each, ImpatientProtocol) and each.undelivered > 0 for each in server.server_state.connections)


CHUNKED = b"POST / HTTP/1.1\r\nHost: toy\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("chunks", [400 * b"1\r\nx\r\n", 2000 * (b"40\r\n" + 64 * b"x" + b"\r\n")])
def test_some_small_chunks_and_many_larger_ones(connection: socket.socket, chunks: bytes) -> None:
    connection.sendall(CHUNKED + chunks + b"0\r\n\r\n")
    assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
