"""The process: uvicorn with a drain on SIGTERM, and an end when the device is lost."""

import asyncio
import ctypes
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from models.errors import HonestFaceError
from service.app import create_app
from service.engine import Engine
from service.logs import configure, event
from service.settings import Settings
from service.slow_clients import ImpatientProtocol
from service.state import LAST_SECONDS, Service

_EXIT_S = 5.0
# glibc's malloc.h: how much free memory at an arena's end goes back to the kernel, what is taken from it and given back
# each time, and how many arenas threads allocate from.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def keep_freed_memory() -> None:
    """Lets the threads' freed memory serve all of them instead of the kernel.

    By default glibc has up to eight arenas a core, whose memory serves no other thread, and gives pictures' memory back
    to the kernel to ask for it again: 2,400 page faults and 8 ms of a core for each answer with a face of 512 px.
    Blocks of up to 32 MiB, glibc's most, are kept too: a photograph of 12 megapixels has many. Without effect on
    another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 2)
        mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
        mallopt(_M_TRIM_THRESHOLD, 64 * 2**20)


class Server(uvicorn.Server):
    """A uvicorn server that on the first signal refuses new work, finishes what is in work, and exits with 0."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._drain_until = 0.0
        self._announced = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Of a terminal that goes both the shell and the kernel tell.
        if self._drain_until and sig != signal.SIGHUP:
            # Asked twice: whoever asks has no more patience.
            self.force_exit = self.should_exit = True
        self._drain_until = time.monotonic() + self._service.settings.drain_s
        self._service.drain()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Tries the address before the bundle is loaded for nothing.

        Raises:
            HonestFaceError: it cannot be listened on.
        """
        host, port = self.config.host, self.config.port
        try:
            loop = asyncio.get_running_loop()
            (await loop.create_server(asyncio.Protocol, host, port, start_serving=False)).close()
        except OSError as error:
            raise HonestFaceError(f"{host}:{port}: {error.strerror or error}") from error
        await super().startup(sockets)

    @property
    def _address(self) -> str:
        """What it listens on; the port is known by now where any was asked for."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def _in_flight(self) -> bool:
        """Requests are in work, or answers have yet to be taken by their clients."""
        connections = [each for each in self.server_state.connections if isinstance(each, ImpatientProtocol)]
        return bool(self._service.admission.requests) or any(each.undelivered for each in connections)

    async def on_tick(self, counter: int) -> bool:
        service = self._service
        if service.started and not self._announced:
            self._announced = True
            event(
                "ready", address=self._address, seconds_per_face=round(service.admission.throughput.seconds_per_face, 4)
            )
        if self._drain_until and (not self._in_flight or time.monotonic() > self._drain_until):
            self.should_exit = True
        if service.death is not None:
            # For a while /livez tells; a bundle that cannot be loaded is told on stderr and waits for nobody.
            grace = 0.0 if isinstance(service.death, HonestFaceError) else service.settings.death_grace_s
            self.should_exit = self.should_exit or time.monotonic() >= service.died_at + grace
        return await super().on_tick(counter)


def server_of(app: FastAPI) -> Server:
    """The server of an app made by `create_app`, at its settings' host and port. Whatever else is installed, what is
    served is what was tested: loop and protocol are named."""
    service: Service = app.state.service

    class Protocol(ImpatientProtocol):
        answer_bytes = service.settings.answer_bytes
        metrics = service.metrics

    config = uvicorn.Config(
        app,
        host=service.settings.host,
        port=service.settings.port,
        loop="asyncio",
        http=Protocol,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=LAST_SECONDS,
    )
    return Server(config, service)


def run(settings: Settings, make_engine: Callable[[], Engine]) -> int:
    """Serves until a signal or the device's death; returns the exit code.

    Raises:
        HonestFaceError: the bundle cannot be loaded, or the address not be listened on.
    """
    keep_freed_memory()
    configure(settings.log_level)
    app = create_app(settings, make_engine)
    service: Service = app.state.service
    server = server_of(app)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGHUP, server.handle_exit)  # a terminal that goes: as SIGTERM, which uvicorn looks after
    server.run()
    if service.death is None:
        event("stopped")
        return 0
    if isinstance(service.death, HonestFaceError):
        raise service.death
    return 1


def exit_soon(code: int) -> None:
    """Ends the process within seconds: a lost device, or a picture that takes minutes to decode, keeps a thread in a
    call that an ordinary exit waits for."""
    failsafe = threading.Timer(_EXIT_S, os._exit, (code,))
    failsafe.daemon = True
    failsafe.start()
