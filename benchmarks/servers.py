"""Servers as processes of their own, and the pictures that they are asked to restore."""

import http.client
import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from skimage.data import astronaut


@dataclass(frozen=True)
class Case:
    """A picture that is restored, and which of its faces."""

    name: str
    image: bytes
    faces: str


def cases() -> dict[str, Case]:
    """An aligned face of 512 px and a photograph of 12 megapixels, both JPEG."""
    photo = astronaut()
    face = np.asarray(Image.fromarray(photo[0:220, 115:335]).resize((512, 512), Image.Resampling.BICUBIC))
    large = np.asarray(Image.fromarray(photo).resize((3464, 3464), Image.Resampling.BICUBIC))
    return {
        "face": Case("face of 512 px", _jpeg(face), "aligned"),
        "photo": Case("photo of 12 MP", _jpeg(large), "largest"),
    }


def _jpeg(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=92)
    return out.getvalue()


@dataclass(frozen=True)
class Server:
    """A running server: its port, its process, and the route that restores."""

    port: int
    pid: int
    path: str


@contextmanager
def honestface(bundle: Path | None) -> Iterator[Server]:
    """This service."""
    port = free_port()
    command = [sys.executable, "-m", "honestface", "serve", "--port", str(port)]
    with process(command + (["--bundle", str(bundle)] if bundle else []), port, "/readyz") as pid:
        yield Server(port, pid, "/restore")


@contextmanager
def litserve(bundle: Path | None) -> Iterator[Server]:
    """LitServe with the same engine behind it."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.litserve_server", str(port)]
    with process(command + ([str(bundle)] if bundle else []), port, "/health") as pid:
        yield Server(port, pid, "/predict")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(command: list[str], port: int, ready: str) -> Iterator[int]:
    """A server that is ready once it answers GET `ready` with 200; its process id."""
    environment = {**os.environ, "HONESTFACE_LOG_LEVEL": "warning"}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as child:
        try:
            end = time.monotonic() + 180
            while not _answers(port, ready):
                if child.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"{' '.join(command)} did not start")
                time.sleep(0.3)
            yield child.pid
        finally:
            children = psutil.Process(child.pid).children(recursive=True) if child.poll() is None else []
            child.terminate()
            child.wait(60)
            # LitServe leaves its workers behind.
            for left in psutil.wait_procs(children, timeout=5)[1]:
                left.kill()


def _answers(port: int, path: str) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
