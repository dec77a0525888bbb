"""`make monitoring-check`: our Prometheus configuration against a running service (Debian or Ubuntu).

promtool checks the configuration and tests the alerts; the service serves the tiny bundle under load; Debian's
Prometheus scrapes it; every query of the dashboard must give a number; when the service ends, its alert must come.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import yaml

from docker.check import check, free_port, need, run, wait_until_ready
from docker.dashboard import FOLDER, Prometheus, draw, queries
from docker.photo import degraded_photo

CONFIGURATION = FOLDER / "prometheus"
#: As long as the picture's time axis, and more than the rates need.
LOAD_S = 90


def main() -> None:
    picture = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    need("prometheus", "prometheus", "promtool")
    for what in (("config", "prometheus.yml"), ("rules", "alerts.yml")):
        run("promtool", "check", what[0], str(CONFIGURATION / what[1]))
    run("promtool", "test", "rules", str(CONFIGURATION / "alerts_test.yml"))
    check(True, "promtool accepts the configuration, the rules and their tests")
    with (
        tempfile.TemporaryDirectory() as work,
        serving(Path(work)) as (service, url),
        scraping(Path(work), url.removeprefix("http://")) as prometheus,
    ):
        with load(url):
            time.sleep(LOAD_S)
            ask_everything(prometheus)
            if picture:
                draw(prometheus, picture)
        ends_with_an_alert(prometheus, service)


@contextmanager
def serving(work: Path) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """The service with the tiny bundle on the loopback interface."""
    port = free_port()
    log = work / "service.log"
    with log.open("w") as out:
        # A queue of a few faces, so that the load below is turned away now and then.
        environment = os.environ | {"HONESTFACE_QUEUE_FACES": "4"}
        command = [sys.executable, "honestface.py", "serve", "--port", str(port)]
        child = subprocess.Popen(command, cwd=FOLDER.parent, env=environment, stdout=out, stderr=out)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url, child, log)
        yield child, url
    finally:
        child.kill()
        child.wait()


@contextmanager
def scraping(work: Path, target: str) -> Iterator[Prometheus]:
    """Prometheus with our configuration; only the target's address is another."""
    shutil.copytree(CONFIGURATION, work / "prometheus")
    configuration = work / "prometheus" / "prometheus.yml"
    configuration.write_text(configuration.read_text().replace("honestface:8000", target))
    address = f"127.0.0.1:{free_port()}"
    with (work / "prometheus.log").open("w") as log:
        child = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={configuration}",
                f"--storage.tsdb.path={work / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        yield Prometheus(f"http://{address}")
    finally:
        child.terminate()
        child.wait(20)


@contextmanager
def load(url: str) -> Iterator[None]:
    """Clients that upload photographs with and without references, more of them than the queue holds."""
    photo, over = degraded_photo(), threading.Event()

    def client(number: int) -> None:
        with httpx.Client(base_url=url, timeout=60) as http:
            while not over.is_set():
                files = [("image", photo), *([("references", photo)] if number % 2 else [])]
                answer = http.post("/restore", files=files)
                if answer.status_code == 429:
                    over.wait(float(answer.headers["Retry-After"]))

    with httpx.Client(base_url=url, timeout=60) as http:
        http.put("/reference-sets/monitoring", files=[("references", photo)]).raise_for_status()
        check(http.post("/restore", files=[("image", b"no picture")]).status_code == 415, "a broken upload is refused")
    clients = [threading.Thread(target=client, args=(number,)) for number in range(5)]
    for each in clients:
        each.start()
    try:
        yield
    finally:
        over.set()
        for each in clients:
            each.join()


def ask_everything(prometheus: Prometheus) -> None:
    """Every query of the dashboard gives at least one number, and Prometheus evaluates every alert."""
    for query in queries():
        values = prometheus.values(query.expression)
        check(bool(values), f"{query.panel} [{query.legend}]: {', '.join(f'{value:.4g}' for value in values[:6])}")
    for rule in yaml.safe_load((FOLDER / "kubernetes" / "prometheus-adapter.yaml").read_text())["rules"]["custom"]:
        # As the adapter fills it in, but with the labels that there are without Kubernetes.
        series, expression = rule["seriesQuery"].partition("{")[0], rule["metricsQuery"]
        for placeholder, value in (("Series", series), ("LabelMatchers", 'job="honestface"'), ("GroupBy", "instance")):
            expression = expression.replace(f"<<.{placeholder}>>", value)
        values = prometheus.values(expression)
        check(bool(values), f"the autoscaler's {rule['name']['as']}: {values}")
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    check(bool(rules) and all(rule["health"] == "ok" for rule in rules), f"{len(rules)} alerts are evaluated")


def ends_with_an_alert(prometheus: Prometheus, service: "subprocess.Popen[bytes]") -> None:
    service.send_signal(signal.SIGTERM)
    check(service.wait(40) == 0, "SIGTERM ends the service with 0")
    time.sleep(25)
    waiting = {alert["labels"]["alertname"]: alert["state"] for alert in prometheus.get("alerts")["alerts"]}
    check(waiting.get("HonestFaceDown") == "pending", f"HonestFaceDown comes: {waiting}")


if __name__ == "__main__":
    main()
