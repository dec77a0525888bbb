"""How long a client is waited for, and how it says how long it waits."""

import contextlib
import socket

import pytest
from starlette.requests import Request

from service.connection import deadline_of
from service.request_scope import RequestContext
from tests.service.running import running


def test_an_upload_that_drips_is_given_up() -> None:
    with (
        running(upload_idle_s=0.3) as toy,
        socket.create_connection(toy.server.servers[0].sockets[0].getsockname()) as connection,
    ):
        connection.sendall(
            b"POST /restore HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            b'Content-Length: 1000\r\n\r\n--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n'
        )
        connection.settimeout(0.05)
        answer = b""
        for _ in range(100):
            connection.sendall(b"x")
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(100)
                break
        assert answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(("asked", "deadline"), [(None, 160.0), ("5", 105.0), ("9999", 160.0), ("inf", 160.0)])
def test_a_client_can_ask_for_less_time_but_not_for_more(asked: str | None, deadline: float) -> None:
    headers = [] if asked is None else [(b"x-request-timeout", asked.encode())]
    context = RequestContext("id", started=100.0)
    assert deadline_of(Request({"type": "http", "headers": headers, "state": {"context": context}}), 60) == deadline
