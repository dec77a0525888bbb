"""Ray beside the same work without it, in one run on one machine (docs/scaling.md).

    python -m benchmarks.ray [--seconds 8] [--clients 1 4] [--photos DIR] [--count 100] [--workers 0 1 2]

The service: plain uvicorn, one replica with all cores, two replicas that share them; closed loops with an aligned face
of 512 px. With --photos also an archive, its first `count` pictures: in one process, and by two workers on Ray Data.
"""

import argparse
import contextlib
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.load import Upload, closed_loop, watching
from benchmarks.servers import cases, process

_SERVE = [sys.executable, "-m", "honestface", "serve"]


def _port() -> int:
    """A free port that Ray, which starts before the server, does not take for itself: none of the ephemeral ones."""
    for port in range(18000, 19000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise SystemExit("no port from 18000 to 18999 is free")


def measure(name: str, arguments: list[str], clients: list[int], seconds: float) -> None:
    case = cases()["face"]
    upload = Upload.of(case.image, {"faces": case.faces})
    port, begun = _port(), time.monotonic()
    with process([*_SERVE, "--port", str(port), *arguments], port, "/readyz") as pid:
        started = time.monotonic() - begun
        closed_loop(port, "/restore", upload, max(clients), 2)
        for count in clients:
            with watching(pid) as watch:
                outcome = closed_loop(port, "/restore", upload, count, seconds)
            assert set(outcome.statuses) == {200}, outcome.statuses
            print(
                f"| {name} | {count} | {outcome.per_second:.2f} | {outcome.percentile(50) * 1000:.0f} "
                f"| {outcome.percentile(99) * 1000:.0f} | {watch.peak / 1e6:.0f} | {started:.0f} |",
                flush=True,
            )


def measure_archive(photos: list[Path], workers: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        listing, out, manifest = Path(folder, "list.txt"), Path(folder, "out"), Path(folder, "manifest.jsonl")
        listing.write_text("\n".join(map(str, photos)))
        command = [sys.executable, "-m", "honestface", "restore", str(listing), "-o", str(out)]
        begun = time.monotonic()
        with subprocess.Popen(
            [*command, "--manifest", str(manifest), "--workers", str(workers)], stderr=subprocess.PIPE, text=True
        ) as run:
            # The pace counts from the first results on: what comes before, an archive of a million pays once.
            while run.poll() is None and not (manifest.exists() and manifest.stat().st_size):
                time.sleep(0.05)
            first, early = time.monotonic(), len(manifest.read_text().splitlines())
            _, shown = run.communicate()
        ended = time.monotonic()
        pace = (len(photos) - early) / (ended - first)
        told = re.search(r"\d+ restored, .* failed", shown)
        assert told, shown
        print(f"| {workers or 'none'} | {pace:.2f} | {first - begun:.0f} | {told[0]} |", flush=True)
        shutil.rmtree(out, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each measurement")
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 4], help="none: no service")
    parser.add_argument("--photos", type=Path, help="folder of photographs for the archive")
    parser.add_argument("--count", type=int, default=100, help="how many of them")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="0: one process, without Ray")
    arguments = parser.parse_args()

    cores = os.cpu_count() or 1
    print(f"{platform.processor() or platform.machine()}, {cores} cores, torch {torch.__version__}\n")
    if arguments.clients:
        print(f"| service | clients | per second | p50 ms | p99 ms | peak MB | start s |\n{'|---' * 7}|")
        measure("uvicorn", [], arguments.clients, arguments.seconds)
        measure("Ray, 1 replica", ["--replicas", "1"], arguments.clients, arguments.seconds)
        measure("Ray, 2 replicas", ["--replicas", "2"], arguments.clients, arguments.seconds)
    if arguments.photos:
        photos = [path.absolute() for path in sorted(arguments.photos.iterdir()) if path.is_file()][: arguments.count]
        print(f"\n| workers | photos a second | first result after s | |\n{'|---' * 4}|")
        for workers in arguments.workers:
            measure_archive(photos, workers)


if __name__ == "__main__":
    main()
