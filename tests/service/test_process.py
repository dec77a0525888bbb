"""The service as a process of its own: its signals and exit codes."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import numpy as np
import pytest

from tests.service.running import ANNA_PHOTO, file_of, until

_PROGRAM = """
import signal
import sys
from service.server import exit_soon, run
from service.settings import Settings
from tests.service.running import Steerable, toy_engine
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup
{preparation}
code = run(Settings(port={port}, drain_s={drain_s}, death_grace_s=1), make)
exit_soon(code)
sys.exit(code)
"""
_SLOW = "make = lambda: toy_engine(Steerable(seconds=0.4))"
_DYING = """
from service.batcher import DeviceLost
generator = Steerable()
def make():
    engine = toy_engine(generator)
    warm_up = engine.warm_up
    def then_break(*arguments):
        seconds = warm_up(*arguments)
        generator.failures.append(DeviceLost("poisoned"))
        return seconds
    engine.warm_up = then_break
    return engine
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(preparation: str, drain_s: int = 10) -> Iterator[tuple[subprocess.Popen[str], str]]:
    port = free_port()
    program = _PROGRAM.format(preparation=preparation, port=port, drain_s=drain_s)
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, cwd=os.getcwd()) as child:
        try:
            url = f"http://127.0.0.1:{port}"
            until(lambda: is_ready(url), 120)
            yield child, url
        finally:
            child.kill()


def is_ready(url: str) -> bool:
    try:
        return httpx.get(url + "/readyz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("numbers", [[signal.SIGTERM], [signal.SIGHUP, signal.SIGHUP]])
def test_a_signal_under_load_loses_nothing_and_exits_with_0(numbers: list[signal.Signals]) -> None:
    def ask(url: str) -> int:
        try:
            return httpx.post(url + "/restore", files={"image": ANNA_PHOTO}, timeout=30).status_code
        except httpx.ConnectError:
            return 0  # it came after the end

    with process(_SLOW) as (child, url), ThreadPoolExecutor(8) as pool:
        early = [pool.submit(ask, url) for _ in range(4)]
        until(lambda: httpx.get(url + "/health").json()["requests_in_progress"] == 4)
        for number in numbers:
            child.send_signal(number)
            time.sleep(0.3)
        late = [pool.submit(ask, url) for _ in range(3)]
        assert [each.result() for each in early] == [200] * 4
        assert {each.result() for each in late} <= {503, 0}
        assert 503 in {each.result() for each in late}
        assert child.wait(60) == 0
        assert child.stderr is not None
        log = child.stderr.read()
        assert '"draining"' in log and '"stopped"' in log and "Traceback" not in log


_SHORT_END = """
import service.server
service.server.LAST_SECONDS = 1
make = toy_engine
"""


def test_sigterm_waits_for_who_takes_an_answer_slowly() -> None:
    noise = file_of(np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8))
    request = httpx.Request(
        "POST", "http://toy/restore", files={"image": noise}, data={"faces": "aligned", "upscale": "4"}
    )
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    with process(_SHORT_END) as (child, url), socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        slow.settimeout(20)
        slow.connect(("127.0.0.1", int(url.rpartition(":")[2])))
        slow.sendall(f"POST /restore HTTP/1.1\r\n{head}\r\n".encode() + request.read())
        answer = slow.recv(65536)
        length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        assert length > 8_000_000, "more than the kernel keeps for a connection"
        child.send_signal(signal.SIGTERM)
        time.sleep(2.5)
        got = len(answer.partition(b"\r\n\r\n")[2])
        while got < length and (data := slow.recv(1_000_000)):
            got += len(data)
        assert got == length
        assert child.wait(60) == 0


_STUCK = """
import time
import service.restoration
service.restoration.decode = lambda *_: time.sleep(600)
make = toy_engine
"""


def test_a_picture_that_takes_for_ever_does_not_keep_the_process() -> None:
    with process(_STUCK, drain_s=1) as (child, url), ThreadPoolExecutor(1) as pool:
        asked = pool.submit(httpx.post, url + "/restore", files={"image": ANNA_PHOTO}, timeout=60)
        until(lambda: httpx.get(url + "/health").json()["requests_in_progress"] == 1)
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 0
        assert asked.exception() is not None or asked.result().status_code >= 500


def test_a_lost_device_exits_with_1() -> None:
    with process(_DYING) as (child, url):
        response = httpx.post(url + "/restore", files={"image": ANNA_PHOTO}, timeout=30)
        assert (response.status_code, response.json()["type"]) == (503, "urn:honestface:problem:device-failed")
        assert httpx.get(url + "/livez").status_code == 503
        assert child.wait(60) == 1


def test_a_hangup_that_is_ignored_stays_so() -> None:
    with process("signal.signal(signal.SIGHUP, signal.SIG_IGN)\nmake = toy_engine") as (child, url):
        child.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert is_ready(url)


def test_an_address_that_cannot_be_had_is_one_line_before_anything_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for host, why in (("127.0.0.1", "address already in use"), ("nowhere.invalid", "")):
            command = [sys.executable, "honestface.py", "serve", "--host", host, "--port", str(port)]
            ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
            assert ended.returncode == 1 and ended.stderr.count("\n") == 1
            assert ended.stderr.startswith(f"honestface: {host}:{port}: ") and why in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["--bundle", "/nowhere"], "is no bundle"), (["--device", "abacus"], "device 'abacus' cannot be used")],
)
def test_what_cannot_be_served_is_one_line(arguments: list[str], told: str) -> None:
    command = [sys.executable, "honestface.py", "serve", "--port", "0", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert told in ended.stderr.splitlines()[-1] and "Traceback" not in ended.stderr


ARENAS = """
import ctypes, sys, threading
from service.server import keep_freed_memory
libc = ctypes.CDLL(None)
if sys.argv[1] == "shared":
    keep_freed_memory()
barrier = threading.Barrier(6)
def allocate():
    barrier.wait()
    kept = [libc.malloc(1000) for _ in range(100)]
    barrier.wait()
threads = [threading.Thread(target=allocate) for _ in range(6)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
libc.fdopen.restype = ctypes.c_void_p
libc.malloc_info(0, ctypes.c_void_p(libc.fdopen(1, b"w")))
libc.fflush(None)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="not glibc")
def test_threads_share_arenas() -> None:
    def arenas(how: str) -> int:
        told = subprocess.run([sys.executable, "-c", ARENAS, how], capture_output=True, text=True, check=True).stdout
        return told.count("<heap nr=")

    assert arenas("apart") > 2 >= arenas("shared")
