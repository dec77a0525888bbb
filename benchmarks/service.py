"""The service beside the engine alone and LitServe with the same engine, in one run on one machine.

    python -m benchmarks.service [--seconds 20] [--case face|photo] [--clients 1 4 16] [--bundle DIR] [--json FILE]

Closed loop at 1, 4 and 16 clients with an aligned face of 512 px and with a photograph of 12 megapixels, JPEG in and
out. "Engine alone" is the same work, decode to encode, in a loop without any server. All three run the generator as the
service would (HONESTFACE_LIBRARY and HONESTFACE_PRECISION hold for all), and take turns, so that what else the machine
does falls on all of them. "CPU" is the processor time that an answer costs, the client's not
counted, on all cores together.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path

import psutil
import torch

from benchmarks.load import Outcome, Upload, closed_loop, cpu_seconds, cpu_share, watching
from benchmarks.servers import Case, Server, cases, honestface, litserve
from models.face_restorer import FaceRestorer, Options
from models.picture import decode, encode
from service.engine import engine_of
from service.settings import Settings

Row = dict[str, float | int | str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each measurement")
    parser.add_argument("--case", choices=[*cases()], help="only this picture")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--bundle", type=Path, help="bundle folder; none: the embedded one")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()

    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    print(f"{machine}\n\n| server | case | clients | per second | p50 ms | p99 ms | CPU ms | peak MB |\n{'|---' * 8}|")
    rows: list[Row] = []
    engine = engine_of(Settings(bundle=arguments.bundle))
    engine.warm_up([1])
    alone = engine.restorer
    with litserve(arguments.bundle) as other, honestface(arguments.bundle) as ours:
        idle = {"LitServe": cpu_share(other.pid, 5), "HonestFace": cpu_share(ours.pid, 5)}
        for name, case in cases().items():
            if arguments.case in (None, name):
                engine_alone(alone, case, 1)
                for clients in arguments.clients:
                    rows.append(_row("engine alone", case, clients, *engine_alone(alone, case, arguments.seconds)))
                    for server, process in (("LitServe", other), ("HonestFace", ours)):
                        rows.append(_row(server, case, clients, *served(process, case, clients, arguments.seconds)))
    print(f"\nidle, cores: {', '.join(f'{name} {share:.4f}' for name, share in idle.items())}")
    _compare(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "rows": rows, "idle_cores": idle}, indent=2))


def engine_alone(restorer: FaceRestorer, case: Case, seconds: float) -> tuple[Outcome, float, int]:
    """The work of a request, one after the other, without a server; CPU seconds an answer, peak memory."""
    options, outcome = Options(faces=case.faces, diagnostics="none"), Outcome()  # type: ignore[arg-type]
    started, before = time.perf_counter(), time.process_time()
    while outcome.elapsed < seconds:
        begun = time.perf_counter()
        picture = restorer.restore(decode(case.image), (), options).picture
        encode(picture.pixels, picture.alpha, "jpeg", 95)
        outcome.add(200, time.perf_counter() - begun)
        outcome.elapsed = time.perf_counter() - started
    return outcome, (time.process_time() - before) / len(outcome.seconds), psutil.Process().memory_info().rss


def served(server: Server, case: Case, clients: int, seconds: float) -> tuple[Outcome, float, int]:
    """A closed loop on a server; CPU seconds an answer, peak memory."""
    upload = Upload.of(case.image, {"faces": case.faces})
    closed_loop(server.port, server.path, upload, 1, 0.5)
    before = cpu_seconds(server.pid)
    with watching(server.pid) as watch:
        outcome = closed_loop(server.port, server.path, upload, clients, seconds)
    if set(outcome.statuses) != {200}:
        raise SystemExit(f"{server.path} answered {outcome.statuses}")
    return outcome, (cpu_seconds(server.pid) - before) / len(outcome.seconds), watch.peak


def _row(name: str, case: Case, clients: int, outcome: Outcome, cpu: float, peak: int) -> Row:
    row: Row = {
        "server": name,
        "case": case.name,
        "clients": clients,
        "per_second": outcome.per_second,
        "p50_ms": outcome.percentile(50) * 1000,
        "p99_ms": outcome.percentile(99) * 1000,
        "cpu_ms": cpu * 1000,
        "peak_mb": peak / 1e6,
    }
    figures = f"{row['per_second']:.2f} | {row['p50_ms']:.0f} | {row['p99_ms']:.0f} | {row['cpu_ms']:.0f}"
    print(f"| {name} | {case.name} | {clients} | {figures} | {row['peak_mb']:.0f} |", flush=True)
    return row


def _compare(rows: list[Row]) -> None:
    for first in range(0, len(rows), 3):
        engine, other, ours = rows[first : first + 3]
        print(
            f"{ours['case']}, {ours['clients']} clients: throughput {_ratio(ours, engine, 'per_second')} x the engine "
            f"alone, {_ratio(ours, other, 'per_second')} x LitServe; p50 {_over(ours, engine)} over the engine alone, "
            f"{_over(ours, other)} over LitServe"
        )


def _ratio(one: Row, other: Row, figure: str) -> str:
    return f"{float(one[figure]) / float(other[figure]):.2f}"


def _over(one: Row, other: Row) -> str:
    return f"{float(one['p50_ms']) - float(other['p50_ms']):+.1f} ms"


if __name__ == "__main__":
    main()
