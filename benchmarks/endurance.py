"""What the service does with far too much work, and over a long time.

python -m benchmarks.endurance overload [--seconds 60] [--times 5] [--deadline 2]
python -m benchmarks.endurance soak [--minutes 15]
"""

import argparse
import http.client
import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.load import Outcome, Upload, ask, closed_loop, memory, open_loop, watching
from benchmarks.servers import Server, cases, honestface


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["overload", "soak"])
    parser.add_argument("--seconds", type=float, default=60.0, help="of overload")
    parser.add_argument("--times", type=float, default=5.0, help="offered load by the measured capacity")
    parser.add_argument("--deadline", type=float, default=2.0, help="X-Request-Timeout of the requests")
    parser.add_argument("--minutes", type=float, default=15.0, help="of steady work")
    parser.add_argument("--bundle", type=Path, help="bundle folder; none: the embedded one")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    with honestface(arguments.bundle) as server:
        if arguments.what == "overload":
            figures = overload(server, arguments.times, arguments.seconds, arguments.deadline)
        else:
            figures = soak(server, arguments.minutes)
    print(json.dumps(figures, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))


def overload(server: Server, times: float, seconds: float, deadline: float) -> dict[str, object]:
    """A multiple of what the service can do: who is let in is answered in time, the others are told when to come again.

    Afterwards one client asks until an answer takes no more than half again what it took before.
    """
    case = cases()["face"]
    upload = Upload.of(case.image, {"faces": case.faces}, {"X-Request-Timeout": str(deadline)})
    usual = statistics.median(closed_loop(server.port, server.path, upload, 1, 4).seconds)
    capacity = closed_loop(server.port, server.path, upload, 4, 5).per_second
    recovery: list[float] = []

    def recover() -> None:
        started, again = time.perf_counter(), Outcome()
        while not again.seconds or again.seconds[-1] > 1.5 * usual:
            again = closed_loop(server.port, server.path, upload, 1, 0)
        recovery.append(time.perf_counter() - started)

    with watching(server.pid) as watch:
        outcome = open_loop(server.port, server.path, upload, times * capacity, seconds, recover)
    tenth = len(watch.readings) // 10
    return {
        "capacity_per_second": round(capacity, 2),
        "offered_per_second": round(times * capacity, 2),
        "seconds": seconds,
        "statuses": _sorted(outcome.statuses),
        "refusals_with_retry_after": outcome.retry_after,
        "answered_per_second": round(outcome.per_second, 2),
        "deadline_s": deadline,
        "accepted_p50_s": round(outcome.percentile(50), 3),
        "accepted_p99_s": round(outcome.percentile(99), 3),
        "memory_after_a_tenth_mb": round(statistics.median(watch.readings[tenth : 2 * tenth]) / 1e6, 1),
        "memory_at_the_end_mb": round(statistics.median(watch.readings[-tenth:]) / 1e6, 1),
        "usual_answer_s": round(usual, 3),
        "recovery_s": round(recovery[0], 3),
    }


def soak(server: Server, minutes: float) -> dict[str, object]:
    """Steady mixed work, references and reports among it; memory after the first fifth of the time and at its end."""
    face, photo = cases().values()
    kinds = [
        Upload.of(face.image, {"faces": face.faces}),
        Upload.of(photo.image, {"faces": photo.faces}),
        Upload.of(photo.image, {"faces": "all", "diagnostics": "full"}, {"Accept": "application/json"}),
        Upload.of(face.image, {"faces": face.faces, "format": "webp"}, references=[photo.image]),
    ]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    started, readings, count = time.monotonic(), [], 0
    while (passed := time.monotonic() - started) < minutes * 60:
        status, _, _ = ask(connection, server.path, kinds[count % len(kinds)])
        if status != 200:
            raise SystemExit(f"answer {count} was {status}")
        count += 1
        if passed > minutes * 60 / 5:
            readings.append(memory(server.pid))
    part = max(1, len(readings) // 10)
    early, late = statistics.median(readings[:part]), statistics.median(readings[-part:])
    return {
        "minutes": minutes,
        "requests": count,
        "early_mb": round(early / 1e6, 1),
        "late_mb": round(late / 1e6, 1),
        "growth_percent": round(100 * (late / early - 1), 2),
        "readings_mb": [round(reading / 1e6, 1) for reading in readings[::part]],
    }


def _sorted(statuses: Mapping[int, int]) -> dict[int, int]:
    return dict(sorted(statuses.items()))


if __name__ == "__main__":
    main()
