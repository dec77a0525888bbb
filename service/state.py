"""The one object behind all routes: the pipeline with its admission, references and metrics, and how it fares."""

import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Literal

from fastapi import Request

from models.errors import HonestFaceError
from service.admission import Admission
from service.engine import Engine
from service.logs import event, logger
from service.metrics import Metrics
from service.reference_sets import ReferenceStore
from service.restoration import RestorationPipeline
from service.settings import Settings

Status = Literal["starting", "ready", "draining", "failed"]
#: After the drain: what connections have to close in, and then the device to finish what it has begun.
LAST_SECONDS = 5


class Service:
    """Starts the device thread, and knows whether the service is started, ready, alive, draining or dead."""

    def __init__(
        self,
        settings: Settings,
        make_engine: Callable[[], Engine],
        make_references: Callable[[Settings, Metrics], ReferenceStore] = ReferenceStore,
    ) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.admission = Admission(
            settings.max_requests,
            settings.queue_faces,
            settings.upload_bytes,
            settings.drain_s,
            refused=lambda reason: self.metrics.rejections.labels(reason).inc(),
        )
        self.references = make_references(settings, self.metrics)
        self.death: BaseException | None = None
        self.died_at = 0.0
        self.pipeline = RestorationPipeline(
            settings, self.metrics, self.admission, self.references, lambda: self._make(make_engine), self._died
        )
        self._follow()

    def start(self) -> None:
        """Starts the device thread, which loads the bundle."""
        self.pipeline.batcher.start()

    def close(self) -> None:
        """Ends the threads; what the device has begun is finished."""
        if self._device_alive:
            self.pipeline.batcher.close(timeout=LAST_SECONDS)
        self.pipeline.close()

    def drain(self) -> None:
        """Refuses new work from now on."""
        if not self.admission.draining:
            self.admission.draining = True
            event("draining", requests=self.admission.requests, faces=self.admission.faces)

    @property
    def started(self) -> bool:
        """The bundle is loaded and warmed up."""
        return self.pipeline.engine is not None

    @property
    def alive(self) -> bool:
        """The device thread gives signs of life, and no thread of the CPU pool is lost in a task."""
        return self._device_alive and self.pipeline.longest_task_seconds < self.settings.stall_s

    @property
    def _device_alive(self) -> bool:
        """The device thread lives and, once it has loaded the bundle, gives signs of life."""
        batcher = self.pipeline.batcher
        return batcher.alive and (not self.started or batcher.silent_seconds < self.settings.stall_s)

    @property
    def ready(self) -> bool:
        return self.started and self.alive and not self.admission.draining

    @property
    def status(self) -> Status:
        """The service in one word."""
        if not self.alive:
            return "failed"
        if not self.started:
            return "starting"
        return "draining" if self.admission.draining else "ready"

    def _make(self, make_engine: Callable[[], Engine]) -> Engine:
        started = time.monotonic()
        engine = make_engine()
        model = engine.model
        self.metrics.model.labels(model.bundle, model.version, model.profile, model.device, model.precision).set(1)
        self.metrics.device_memory_bytes.set_function(engine.device_memory)
        self.metrics.device_memory_total_bytes.set(engine.device_memory_total)
        event(
            "loaded",
            service_version=version("honestface"),
            bundle=model.bundle,
            version=model.version,
            api_key_required=bool(self.settings.api_keys),
            seconds=round(time.monotonic() - started, 3),
        )
        return engine

    def _died(self, error: BaseException) -> None:
        self.died_at, self.death = time.monotonic(), error
        if not isinstance(error, HonestFaceError):
            logger.error("device thread ended", exc_info=error)

    def _follow(self) -> None:
        metrics, admission = self.metrics, self.admission
        metrics.in_progress.set_function(lambda: admission.requests)
        metrics.queue_faces.set_function(lambda: self.pipeline.batcher.waiting)
        metrics.estimated_wait_seconds.set_function(lambda: admission.estimated_wait)
        metrics.ready.set_function(lambda: self.ready)


def service_of(request: Request) -> Service:
    """The service that answers a request."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service
