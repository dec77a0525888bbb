"""The service on a real Ray with two replicas: load, the death of a replica, reference sets, and the end."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import httpx
import psutil
import pytest

from service.client import Client, ServiceError
from tests.service.running import ANNA_PHOTO, file_of, until
from tests.toy_faces import ANNA, photo

pytest.importorskip("ray", reason="needs the extra `ray`: make ray-check")
pytestmark = pytest.mark.slow

from service.ray_app import ByFaces, application  # noqa: E402

_PROGRAM = """
import sys
from service.ray_app import Scaling, run
from service.settings import Settings
from tests.service.ray_toys import slow_engine
scaling = Scaling(min_replicas=2, max_replicas=3, cpus=1, faces_a_replica=5, upscale_s=1)
sys.exit(run(Settings(port={port}, drain_s=10), scaling, slow_engine))
"""
SET = "grandmother-0451"
MANIFEST = Path(__file__).parents[2] / "docker" / "kuberay.yaml"


@dataclass(frozen=True)
class OnRay:
    """The service's address and its driver process."""

    url: str
    driver: psutil.Process

    def replicas(self) -> list[psutil.Process]:
        return [each for each in self.processes() if _title(each).startswith("ray::ServeReplica:honestface:replica")]

    def processes(self) -> list[psutil.Process]:
        return [self.driver, *self.driver.children(recursive=True)]

    def faces_by_replica(self) -> dict[float, float]:
        """Faces restored by each replica that answers, told apart by when they started."""
        found = {}
        for _ in range(20):
            lines = httpx.get(self.url + "/metrics", timeout=30).text.splitlines()
            values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
            found[float(values["honestface_process_start_time_seconds"])] = float(values["honestface_faces_total"])
        return found


def _title(process: psutil.Process) -> str:
    try:
        return str(process.cmdline()[0])
    except (psutil.Error, IndexError):
        return ""


@pytest.fixture(scope="module")
def on_ray() -> Iterator[OnRay]:
    port = _port()
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "HONESTFACE_LOG_LEVEL": "error"}
    program = _PROGRAM.format(port=port)
    with subprocess.Popen([sys.executable, "-c", program], env=environment) as child:
        running = OnRay(f"http://127.0.0.1:{port}", psutil.Process(child.pid))
        try:
            until(lambda: child.poll() is not None or _is_ready(running.url), 240)
            yield running
        finally:
            left = running.processes() if child.poll() is None else []
            child.terminate()
            try:
                child.wait(60)
            finally:
                for process in left:
                    if process.is_running():
                        process.kill()


def _port() -> int:
    """A free port that Ray, which starts first, does not take for itself: none of the ephemeral ones."""
    for port in range(19000, 20000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(url + "/readyz", timeout=30).status_code == 200
    except httpx.TransportError:
        return False


def test_a_reference_set_is_known_to_both_replicas(on_ray: OnRay) -> None:
    with Client(on_ray.url) as client, ThreadPoolExecutor(8) as pool:
        three = [file_of(photo(((240.0, 180.0), size, ANNA))) for size in (180.0, 190.0, 210.0)]
        for references in ([ANNA_PHOTO], three):  # the second takes the place of the first
            assert client.put_references(SET, references)["references"] == len(references)
            work = [pool.submit(client.restore, ANNA_PHOTO, reference_set=SET) for _ in range(8)]
            used = {len(each.result().faces[0]["report"]["references"]) for each in work}
            assert used == {len(references)}
        faces = on_ray.faces_by_replica()
        assert len(faces) == 2 and min(faces.values()) > 0, "both replicas have taken part"
        client.delete_references(SET)
        for _ in range(8):
            with pytest.raises(ServiceError, match="no reference set") as caught:
                client.restore(ANNA_PHOTO, reference_set=SET)
            assert caught.value.status == 404


def test_ray_listens_on_loopback_only_and_writes_nothing_of_ours(on_ray: OnRay) -> None:
    listening = set()
    for process in on_ray.processes():
        for connection in process.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                listening.add(connection.laddr.ip)
    assert listening and listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    (raylet,) = [each for each in on_ray.processes() if each.name() == "raylet"]
    (session,) = {word.split("=", 1)[1] for word in raylet.cmdline() if word.startswith("--session_dir=")}
    assert os.path.isdir(session)
    held = subprocess.run(["grep", "-rlE", f"{SET}|JFIF|IHDR", session], capture_output=True, text=True)
    assert held.stdout == "", "neither a set's name nor a picture is in Ray's files"


@dataclass
class Load:
    """A client that asks again as soon as it is answered, and the same again if that failed; `failed` holds when such
    a request had begun, and how it ended."""

    url: str
    answered: int = 0
    failed: list[tuple[float, object]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def __call__(self) -> None:
        with httpx.Client(base_url=self.url, timeout=60) as client:
            while not self.ended.is_set():
                begun = time.monotonic()
                while (outcome := self._ask(client)) != 200:
                    self.failed.append((begun, outcome))
                    begun = time.monotonic()
                self.answered += 1

    @staticmethod
    def _ask(client: httpx.Client) -> object:
        try:
            return client.post("/restore", files={"image": ANNA_PHOTO}).status_code
        except httpx.TransportError as error:
            return repr(error)


def test_the_death_of_a_replica_loses_what_it_had_in_hand_and_no_more(on_ray: OnRay) -> None:
    clients, load = 6, Load(on_ray.url)
    with ThreadPoolExecutor(clients) as pool:
        work = [pool.submit(load) for _ in range(clients)]
        try:
            until(lambda: load.answered >= clients, 60)
            victim, survivor = on_ray.replicas()
            assert not load.failed
            victim.kill()
            killed, before = time.monotonic(), load.answered
            until(lambda: load.answered >= before + 2 * clients, 60)
            until(lambda: len(on_ray.replicas()) == 2 and victim not in on_ray.replicas(), 60)
            until(lambda: len(on_ray.faces_by_replica()) == 2, 120)
            recovered = load.answered
            until(lambda: load.answered >= recovered + clients, 60)
        finally:
            load.ended.set()
        for each in work:
            each.result()
    assert survivor.is_running()
    assert 1 <= len(load.failed) <= clients
    assert all(begun <= killed for begun, _ in load.failed), "only what was in flight, and it was answered when retried"


def test_more_faces_start_another_replica(on_ray: OnRay) -> None:
    clients, load = 14, Load(on_ray.url)
    assert len(on_ray.replicas()) == 2, "six clients were not enough for a third"
    with ThreadPoolExecutor(clients) as pool:
        work = [pool.submit(load) for _ in range(clients)]
        try:
            until(lambda: len(on_ray.replicas()) == 3, 120)
        finally:
            load.ended.set()
        for each in work:
            each.result()
    assert not load.failed


def test_work_in_hand_is_finished_before_the_end(on_ray: OnRay) -> None:
    def ask(_: int) -> int:
        return httpx.post(on_ray.url + "/restore", files={"image": ANNA_PHOTO}, timeout=60).status_code

    def in_progress() -> int:
        return int(httpx.get(on_ray.url + "/health", timeout=30).json()["requests_in_progress"])

    clients = 18  # a quarter of a second each: enough to be seen at work, whichever replica answers for itself
    with ThreadPoolExecutor(clients) as pool:
        work = [pool.submit(ask, index) for index in range(clients)]
        until(lambda: in_progress() >= 2, 30)
        everything = on_ray.processes()
        on_ray.driver.send_signal(signal.SIGTERM)
        assert [each.result() for each in work] == [200] * clients
    assert on_ray.driver.wait(60) == 0
    _, alive = psutil.wait_procs(everything, timeout=20)
    assert alive == [], "Ray leaves nothing running"


def test_a_bundle_that_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "honestface.py", "serve", "--port", str(_port()), "--replicas", "1"]
    ended = subprocess.run([*command, "--bundle", str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("honestface: the replicas do not start: ") and "is no bundle" in last


@pytest.mark.parametrize(("faces", "replicas"), [({"a": 0.0}, 1), ({"a": 4.0}, 1), ({"a": 4.0, "b": 5.0}, 3), ({}, 2)])
def test_replicas_by_faces_in_work(faces: dict[str, float], replicas: int) -> None:
    context = SimpleNamespace(aggregated_metrics={"faces": faces}, target_num_replicas=2)
    assert ByFaces(faces_a_replica=4)(context) == (replicas, {})


@pytest.mark.filterwarnings("ignore")  # of Ray's own, while it is imported
def test_what_a_cluster_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Serve calls it: a function of one argument, made from the manifest's `args`."""
    import yaml
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary
    from ray.serve.schema import ServeDeploySchema

    monkeypatch.setenv("HONESTFACE_DEVICE", "cuda")
    monkeypatch.setenv("HONESTFACE_DRAIN_S", "45")
    (service,) = [each for each in yaml.safe_load_all(MANIFEST.read_text()) if each["kind"] == "RayService"]
    config = yaml.safe_load(service["spec"]["serveConfigV2"])
    ServeDeploySchema.model_validate(config)
    (deployed,) = config["applications"]
    assert deployed["import_path"] == f"{application.__module__}:{application.__name__}"
    built = call_user_app_builder_with_args_if_necessary(application, deployed["args"])
    replica = built._bound_deployment
    assert replica.ray_actor_options == {"num_cpus": deployed["args"]["cpus"], "num_gpus": 1}
    assert replica._deployment_config.graceful_shutdown_timeout_s == 45
    scaling = replica._deployment_config.autoscaling_config
    assert scaling.max_replicas == deployed["args"]["max_replicas"]
