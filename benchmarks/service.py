"""The service beside the engine alone and LitServe with the same engine, in one run on one machine.

    python -m benchmarks.service [--seconds 20] [--bundle DIR] [--overload 60] [--soak MINUTES] [--json FILE]

Closed loop at 1, 4 and 16 clients with an aligned face of 512 px and with a photograph of 12 megapixels, JPEG in and
out.
"Engine alone" is the same work, decode to encode, in a loop without any server.
"""

import argparse
import http.client
import io
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image
from skimage.data import astronaut

from benchmarks.load import Outcome, Upload, ask, closed_loop, cpu_share, memory, open_loop, watching
from models.bundle import load_bundle
from models.face_restorer import FaceRestorer, Options
from models.picture import decode, encode

CLIENTS = (1, 4, 16)


@dataclass(frozen=True)
class Case:
    """A picture that is restored, and which of its faces."""

    name: str
    image: bytes
    faces: str


def cases() -> list[Case]:
    photo = astronaut()
    face = np.asarray(Image.fromarray(photo[0:220, 115:335]).resize((512, 512), Image.Resampling.BICUBIC))
    large = np.asarray(Image.fromarray(photo).resize((3464, 3464), Image.Resampling.BICUBIC))
    return [Case("face of 512 px", _jpeg(face), "aligned"), Case("photo of 12 MP", _jpeg(large), "largest")]


def _jpeg(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=92)
    return out.getvalue()


def engine_alone(restorer: FaceRestorer, case: Case, seconds: float) -> Outcome:
    """The work of a request, one after the other, without a server."""
    options, outcome = Options(faces=case.faces, diagnostics="none"), Outcome()  # type: ignore[arg-type]
    for warm in (True, False):
        started = time.perf_counter()
        while time.perf_counter() - started < (1 if warm else seconds):
            begun = time.perf_counter()
            picture = restorer.restore(decode(case.image), (), options).picture
            encode(picture.pixels, picture.alpha, "jpeg", 95)
            if not warm:
                outcome.add(200, time.perf_counter() - begun)
        outcome.elapsed = time.perf_counter() - started
    return outcome


@contextmanager
def server(command: list[str], port: int, ready: str) -> Iterator[int]:
    """A server as a process of its own, from when it is ready; its process id."""
    environment = {**os.environ, "HONESTFACE_LOG_LEVEL": "warning"}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as process:
        try:
            end = time.monotonic() + 180
            while not _answers(port, ready):
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"{' '.join(command)} did not start")
                time.sleep(0.3)
            yield process.pid
        finally:
            children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.terminate()
            process.wait(60)
            # LitServe leaves its workers behind.
            for child in psutil.wait_procs(children, timeout=5)[1]:
                child.kill()


def _answers(port: int, path: str) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def measure_server(name: str, port: int, pid: int, path: str, seconds: float) -> list[dict[str, object]]:
    rows = []
    for case in cases():
        upload = Upload.of(case.image, {"faces": case.faces})
        closed_loop(port, path, upload, 1, 2)
        for clients in CLIENTS:
            with watching(pid) as watch:
                outcome = closed_loop(port, path, upload, clients, seconds)
            rows.append(_row(name, case.name, clients, outcome, watch.peak))
    return rows


def _row(name: str, case: str, clients: int, outcome: Outcome, peak: int) -> dict[str, object]:
    row: dict[str, object] = {
        "server": name,
        "case": case,
        "clients": clients,
        "per_second": outcome.per_second,
        "p50_ms": outcome.percentile(50) * 1000,
        "p99_ms": outcome.percentile(99) * 1000,
        "peak_mb": peak / 1e6,
        "statuses": outcome.statuses,
    }
    print(
        f"| {name} | {case} | {clients} | {outcome.per_second:.2f} | {row['p50_ms']:.0f} | {row['p99_ms']:.0f} "
        f"| {peak / 1e6:.0f} |",
        flush=True,
    )
    return row


def overload(port: int, pid: int, capacity: float, seconds: float, deadline: float = 10.0) -> dict[str, object]:
    """Five times what the service can do: who is let in is answered in time, the others are told when to come again."""
    case = cases()[0]
    upload = Upload.of(case.image, {"faces": case.faces}, {"X-Request-Timeout": str(deadline)})
    before = memory(pid)
    with watching(pid) as watch:
        outcome = open_loop(port, "/restore", upload, 5 * capacity, seconds)
    ended = time.perf_counter()
    alone = closed_loop(port, "/restore", upload, 1, 5)
    usual = statistics.median(alone.seconds)
    recovered = time.perf_counter() - ended - sum(alone.seconds)
    return {
        "offered_per_second": 5 * capacity,
        "statuses": outcome.statuses,
        "refusals_with_retry_after": outcome.retry_after,
        "accepted_p99_s": outcome.percentile(99),
        "deadline_s": deadline,
        "memory_before_mb": before / 1e6,
        "memory_peak_mb": watch.peak / 1e6,
        "first_answer_after_s": alone.seconds[0],
        "usual_answer_s": usual,
        "recovery_overhead_s": recovered,
    }


def soak(port: int, pid: int, minutes: float) -> dict[str, object]:
    """Steady mixed work; memory after the first tenth of the time and at its end."""
    uploads = [Upload.of(case.image, {"faces": case.faces}) for case in cases()]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    started, readings, count = time.monotonic(), [], 0
    while (passed := time.monotonic() - started) < minutes * 60:
        status, _, _ = ask(connection, "/restore", uploads[count % len(uploads)])
        assert status == 200
        count += 1
        if passed > minutes * 6:
            readings.append(memory(pid))
    early, late = statistics.median(readings[: len(readings) // 5]), statistics.median(readings[-len(readings) // 5 :])
    return {
        "minutes": minutes,
        "requests": count,
        "early_mb": early / 1e6,
        "late_mb": late / 1e6,
        "growth": late / early - 1,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each measurement")
    parser.add_argument("--bundle", type=Path, help="bundle folder; none: the embedded one")
    parser.add_argument("--overload", type=float, default=60.0, help="seconds of five times the capacity; 0: none")
    parser.add_argument("--soak", type=float, default=0.0, help="minutes of steady work; 0: none")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    bundle = [str(arguments.bundle)] if arguments.bundle else []

    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    print(f"{machine}\n\n| server | case | clients | per second | p50 ms | p99 ms | peak MB |\n{'|---' * 7}|")
    figures: dict[str, object] = {"machine": machine}
    loaded = load_bundle(arguments.bundle)
    restorer = FaceRestorer(loaded.generator, loaded.analyzer)
    rows = []
    for case in cases():
        outcome = engine_alone(restorer, case, arguments.seconds)
        rows.append(_row("engine alone", case.name, 1, outcome, memory(os.getpid())))
    del loaded, restorer

    idle = {}
    port = free_port()
    with server([sys.executable, "-m", "benchmarks.litserve_server", str(port), *bundle], port, "/health") as pid:
        idle["LitServe"] = cpu_share(pid, 10)
        rows += measure_server("LitServe", port, pid, "/predict", arguments.seconds)
    port = free_port()
    command = [sys.executable, "-m", "honestface", "serve", "--port", str(port)]
    with server(command + (["--bundle", *bundle] if bundle else []), port, "/readyz") as pid:
        idle["HonestFace"] = cpu_share(pid, 10)
        ours = measure_server("HonestFace", port, pid, "/restore", arguments.seconds)
        rows += ours
        if arguments.overload:
            capacity = max(float(str(row["per_second"])) for row in ours if row["case"] == "face of 512 px")
            figures["overload"] = overload(port, pid, capacity, arguments.overload)
            print(f"\noverload: {json.dumps(figures['overload'], indent=2)}")
        if arguments.soak:
            figures["soak"] = soak(port, pid, arguments.soak)
            print(f"\nsoak: {json.dumps(figures['soak'], indent=2)}")
    figures |= {"rows": rows, "idle_cores": idle}
    print(f"\nidle, cores: {', '.join(f'{name} {share:.4f}' for name, share in idle.items())}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
