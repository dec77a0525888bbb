"""A real uvicorn on the loopback interface in a thread of the test, over toy face tools or any engine."""

import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from models.face_restorer import FaceRestorer
from models.references import References
from service.app import create_app
from service.engine import Engine, ModelInfo
from service.server import Server, server_of
from service.settings import Settings
from service.state import Service
from tests.toy_faces import ANNA, ToyGenerated, ToyGenerator, analyzer, photo

MODEL = ModelInfo("toy", "1", "tiny", "cpu", "float32", {"unet.safetensors": "0" * 64})


@dataclass
class Steerable(ToyGenerator):
    """A toy generator that a test can hold back or make fail (after `skip` good calls); warm-up passes freely."""

    gate: threading.Event = field(default_factory=threading.Event)
    failures: list[BaseException] = field(default_factory=list)
    skip: int = 0
    seconds: float = 0.0
    calls: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    def __call__(
        self,
        lq: Tensor,
        references: References | None = None,
        landmarks: Tensor | None = None,
        identity: Tensor | None = None,
        strength: float | Tensor = 1.0,
        seeds: Sequence[int | None] | None = None,
    ) -> ToyGenerated:
        self.calls += 1
        if not self.gate.wait(30):
            raise TimeoutError("the test never opened the gate")
        time.sleep(self.seconds)
        if self.skip:
            self.skip -= 1
        elif self.failures:
            raise self.failures.pop(0)
        return super().__call__(lq, references, landmarks, identity, strength, seeds)


def toy_engine(generator: ToyGenerator | None = None) -> Engine:
    return Engine(FaceRestorer(generator or ToyGenerator(), analyzer()), MODEL)


@dataclass(frozen=True)
class Running:
    """A running service and a client of it."""

    client: httpx.Client
    service: Service
    server: Server
    thread: threading.Thread
    url: str

    def metric(self, line: str) -> float:
        """The value of a metric by its name and labels as they are exposed."""
        for each in self.client.get("/metrics").text.splitlines():
            if each.startswith(line + " "):
                return float(each.removeprefix(line + " "))
        raise KeyError(line)


@contextmanager
def running(make_engine: Callable[[], Engine] = toy_engine, wait: bool = True, **settings: object) -> Iterator[Running]:
    """Serves with these settings until the block ends; by default from when it is ready."""
    app = create_app(Settings(**{"port": 0, "drain_s": 5, **settings}), make_engine)  # type: ignore[arg-type]
    service: Service = app.state.service
    server = server_of(app)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started and (service.started or not wait or service.death is not None))
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=30) as client:
            yield Running(client, service, server, thread, url)
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Waits until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition never held"
        time.sleep(0.005)


def file_of(pixels: NDArray[np.uint8], format: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format)
    return out.getvalue()


def pixels_of(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


#: A picture with Anna in it, one with nobody, and Anna aligned at 512 px.
ANNA_PHOTO = file_of(photo(((240.0, 180.0), 200.0, ANNA)))
EMPTY_PHOTO = file_of(photo())
ALIGNED_PHOTO = file_of(photo(((255.5, 255.5), 512.0, ANNA), size=(512, 512)))


def problem(response: httpx.Response, name: str, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["type"] == f"urn:honestface:problem:{name}"
    assert document["request_id"] == response.headers["x-request-id"]
    assert document["status"] == status
    return str(document["detail"])
