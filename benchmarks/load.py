"""Load on a server of this machine, and what its processes cost: closed and open loops, CPU time, memory."""

import http.client
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import psutil

BOUNDARY = "benchmark"


@dataclass(frozen=True)
class Upload:
    """A request that is sent again and again."""

    body: bytes
    headers: Mapping[str, str]

    @classmethod
    def of(
        cls,
        image: bytes,
        fields: Mapping[str, str],
        headers: Mapping[str, str] | None = None,
        references: Sequence[bytes] = (),
    ) -> "Upload":
        parts = [
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in fields.items()
        ]
        for name, file in [("image", image), *(("references", reference) for reference in references)]:
            head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="x.jpg"\r\n\r\n'
            parts.append(head.encode() + file + b"\r\n")
        body = b"".join([*parts, f"--{BOUNDARY}--\r\n".encode()])
        return cls(body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", **(headers or {})})


@dataclass
class Outcome:
    """Answers by status, and the seconds that the good ones took."""

    seconds: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    retry_after: int = 0
    elapsed: float = 0.0

    @property
    def per_second(self) -> float:
        return len(self.seconds) / self.elapsed

    def percentile(self, percent: float) -> float:
        return float(np.percentile(self.seconds, percent)) if self.seconds else float("nan")

    def add(self, status: int, seconds: float, retry_after: bool = False) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.retry_after += retry_after
        if status == 200:
            self.seconds.append(seconds)


def ask(connection: http.client.HTTPConnection, path: str, upload: Upload) -> tuple[int, float, bool]:
    """One request: its status, its seconds, and whether it told when to come again."""
    started = time.perf_counter()
    connection.request("POST", path, upload.body, dict(upload.headers))
    response = connection.getresponse()
    response.read()
    return response.status, time.perf_counter() - started, response.getheader("Retry-After") is not None


def closed_loop(port: int, path: str, upload: Upload, clients: int, seconds: float) -> Outcome:
    """`clients` that each ask again as soon as they are answered; at least one answer is waited for."""
    outcome, lock = Outcome(), threading.Lock()
    started = time.perf_counter()

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        while not outcome.elapsed or time.perf_counter() - started < seconds:
            status, took, again = ask(connection, path, upload)
            with lock:
                outcome.add(status, took, again)
                outcome.elapsed = time.perf_counter() - started
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcome


def open_loop(
    port: int, path: str, upload: Upload, per_second: float, seconds: float, then: Callable[[], None]
) -> Outcome:
    """Requests at a pace of their own, whether or not earlier ones have been answered; `then` runs after the last."""
    outcome, lock = Outcome(), threading.Lock()

    def one() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        try:
            status, took, again = ask(connection, path, upload)
        except OSError:
            status, took, again = 0, 0.0, False
        finally:
            connection.close()
        with lock:
            outcome.add(status, took, again)

    started = time.perf_counter()
    with ThreadPoolExecutor(256) as pool:
        for index in range(int(per_second * seconds)):
            time.sleep(max(0.0, started + index / per_second - time.perf_counter()))
            pool.submit(one)
        then()
    outcome.elapsed = time.perf_counter() - started  # to the last answer
    return outcome


@dataclass
class Watch:
    """Memory of a process and its children, bytes: the highest, and each reading."""

    readings: list[int] = field(default_factory=list)

    @property
    def peak(self) -> int:
        return max(self.readings)


@contextmanager
def watching(pid: int, every: float = 0.25) -> Iterator[Watch]:
    """Reads a process tree's memory until the block ends; whom it holds is looked up once, for that costs the machine
    more than reading."""
    tree, ended = _tree(pid), threading.Event()
    watch = Watch([_resident(tree)])

    def read() -> None:
        while not ended.wait(every):
            watch.readings.append(_resident(tree))

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield watch
    finally:
        ended.set()
        thread.join()


def memory(pid: int) -> int:
    """Resident bytes of a process and its children; what they share counts once for each."""
    return _resident(_tree(pid))


def _resident(processes: Sequence[psutil.Process]) -> int:
    return sum(process.memory_info().rss for process in processes if process.is_running())


def cpu_share(pid: int, seconds: float) -> float:
    """Cores that a process and its children use over some seconds."""
    before = cpu_seconds(pid)
    time.sleep(seconds)
    return (cpu_seconds(pid) - before) / seconds


def cpu_seconds(pid: int) -> float:
    """Processor time that a process and its children have used so far."""
    return sum(process.cpu_times().user + process.cpu_times().system for process in _tree(pid))


def _tree(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]
