"""The service beside the engine alone and LitServe with the same engine, in one run on one machine.

    python -m benchmarks.service [--seconds 20] [--case face|photo] [--clients 1 4 16] [--bundle DIR] [--json FILE]

Closed loop at 1, 4 and 16 clients with an aligned face of 512 px and with a photograph of 12 megapixels, JPEG in and
out. "Engine alone" is the same work, decode to encode, in a loop without any server. All three run the generator as the
service would (HONESTFACE_LIBRARY and HONESTFACE_PRECISION hold for all), and take turns of two seconds, so that what
else the machine does falls on all of them. "CPU" is the processor time that an answer costs, the client's not counted,
on all cores together.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
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
#: A measurement: answers, CPU seconds of them all, peak memory in bytes.
Measured = tuple[Outcome, float, int]

TURN_SECONDS = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each measurement, all turns together")
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
                for clients in arguments.clients:
                    contenders: dict[str, Callable[[float], Measured]] = {
                        "engine alone": partial(engine_alone, alone, case),
                        "LitServe": partial(served, other, case, clients),
                        "HonestFace": partial(served, ours, case, clients),
                    }
                    measured = in_turns(contenders, arguments.seconds)
                    rows += [_row(server, case, clients, *measured[server]) for server in contenders]
    print(f"\nidle, cores: {', '.join(f'{name} {share:.4f}' for name, share in idle.items())}")
    _compare(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "rows": rows, "idle_cores": idle}, indent=2))


def in_turns(contenders: Mapping[str, Callable[[float], Measured]], seconds: float) -> dict[str, Measured]:
    """Each contender measured for so long in all, a turn each after the other; a first turn of each does not count."""
    for measure in contenders.values():
        measure(0.5)
    turns = max(1, round(seconds / TURN_SECONDS))
    found: dict[str, list[Measured]] = {name: [] for name in contenders}
    for _ in range(turns):
        for name, measure in contenders.items():
            found[name].append(measure(seconds / turns))
    return {name: _together(parts) for name, parts in found.items()}


def _together(parts: Sequence[Measured]) -> Measured:
    whole = Outcome()
    for outcome, _, _ in parts:
        whole.seconds += outcome.seconds
        whole.elapsed += outcome.elapsed
    return whole, sum(cpu for _, cpu, _ in parts), max(peak for _, _, peak in parts)


def engine_alone(restorer: FaceRestorer, case: Case, seconds: float) -> Measured:
    """The work of a request, one after the other, without a server."""
    options, outcome = Options(faces=case.faces, diagnostics="none"), Outcome()  # type: ignore[arg-type]
    started, before = time.perf_counter(), time.process_time()
    while outcome.elapsed < seconds:
        begun = time.perf_counter()
        picture = restorer.restore(decode(case.image), (), options).picture
        encode(picture.pixels, picture.alpha, "jpeg", 95)
        outcome.add(200, time.perf_counter() - begun)
        outcome.elapsed = time.perf_counter() - started
    return outcome, time.process_time() - before, psutil.Process().memory_info().rss


def served(server: Server, case: Case, clients: int, seconds: float) -> Measured:
    """A closed loop on a server."""
    upload = Upload.of(case.image, {"faces": case.faces})
    before = cpu_seconds(server.pid)
    with watching(server.pid) as watch:
        outcome = closed_loop(server.port, server.path, upload, clients, seconds)
    if set(outcome.statuses) != {200}:
        raise SystemExit(f"{server.path} answered {outcome.statuses}")
    return outcome, cpu_seconds(server.pid) - before, watch.peak


def _row(name: str, case: Case, clients: int, outcome: Outcome, cpu: float, peak: int) -> Row:
    row: Row = {
        "server": name,
        "case": case.name,
        "clients": clients,
        "per_second": outcome.per_second,
        "p50_ms": outcome.percentile(50) * 1000,
        "p99_ms": outcome.percentile(99) * 1000,
        "cpu_ms": cpu / len(outcome.seconds) * 1000,
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
