"""The service on Ray Serve: every replica is the whole application on a device of its own (docs/adr/006-ray-serve.md).

    honestface serve --replicas 1-4         # this machine
    serve deploy config.yaml                # a cluster: import_path service.ray_app:application

The application itself knows nothing of Ray. A replica adds what Serve asks of it: whether it is well, and how many
faces wait, by which the number of replicas is chosen.
"""

import asyncio
import math
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.errors import HonestFaceError
from models.runtime import usable_cores
from service.app import create_app
from service.engine import Engine, engine_of
from service.logs import configure, event
from service.ray_cluster import cluster, import_ray, keep_to_loopback
from service.ray_reference_sets import SharedReferenceSets, SharedReferenceStore
from service.settings import Settings, read_settings
from service.state import Service

NAME = "honestface"
#: Requests that a replica must still answer when it is full: probes, and its own refusals.
_SPARE_REQUESTS = 16


class Scaling(BaseModel):
    """How many replicas, and what each one gets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_replicas: int = Field(1, ge=1)
    max_replicas: int = Field(1, ge=1)
    cpus: int = Field(0, ge=0, description="CPUs of a replica, on a CPU device also its threads; 0: an equal share.")
    faces_a_replica: float = Field(4.0, gt=0, description="Faces in work, waiting ones included, for each replica.")
    upscale_s: float = Field(10.0, ge=0, description="How long there must be too many faces for another replica.")
    downscale_s: float = Field(300.0, ge=0, description="How long there must be too few for one less.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise ValueError("max_replicas is less than min_replicas")
        return self

    @property
    def cpus_a_replica(self) -> int:
        return self.cpus or max(1, usable_cores() // self.max_replicas)


class Replica:
    """The whole application on one device."""

    def __init__(self, settings: Settings, make_engine: Callable[[], Engine] | None, shared: Any) -> None:
        keep_to_loopback()
        configure(settings.log_level)
        self._app = create_app(
            settings,
            make_engine or (lambda: engine_of(settings)),
            lambda settings, metrics: SharedReferenceStore(settings, metrics, shared),
        )
        self._service: Service = self._app.state.service

    def __serve_build_asgi_app__(self) -> FastAPI:
        """What Serve runs in this replica, with its lifespan."""
        return self._app

    async def check_health(self) -> None:
        """Raises what Serve replaces a replica for. The first check lasts until the bundle is loaded: before its end no
        request comes here."""
        while self._service.alive and not self._service.started:
            await asyncio.sleep(0.05)
        if not self._service.alive:
            death = self._service.death
            raise RuntimeError(f"the device has failed: {death or 'it gives no sign of life'}") from death

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What the number of replicas is chosen by."""
        return {"faces": float(self._service.admission.faces)}


class ByFaces:
    """The number of replicas for the faces in work, as Serve's autoscaling policy; Serve adds delays and bounds."""

    def __init__(self, faces_a_replica: float) -> None:
        self._faces_a_replica = faces_a_replica

    def __call__(self, context: Any) -> tuple[int, dict[str, object]]:
        faces = (context.aggregated_metrics or {}).get("faces")
        if not faces:
            return context.target_num_replicas, {}
        return max(1, math.ceil(sum(faces.values()) / self._faces_a_replica)), {}


def application(scaling: Scaling) -> Any:
    """The application with the settings of the environment: what a cluster imports, with `args` for the scaling."""
    return build(read_settings({}), scaling)


def build(settings: Settings, scaling: Scaling, make_engine: Callable[[], Engine] | None = None) -> Any:
    """The application as Serve deploys it.

    `make_engine` is sent to the replicas; without it they load the settings' bundle.
    """
    import_ray()
    from ray import serve
    from ray.serve.config import AutoscalingConfig, AutoscalingPolicy
    from ray.serve.schema import LoggingConfig

    on_cpu = settings.device == "cpu"
    if on_cpu:
        settings = settings.model_copy(update={"device_threads": scaling.cpus_a_replica})
    # Serve's access log would hold the names of reference sets; the application writes one that does not.
    quiet = LoggingConfig(enable_access_log=False)
    shared = serve.deployment(
        SharedReferenceSets,
        name="reference-sets",
        num_replicas=1,
        ray_actor_options={"num_cpus": 0},
        logging_config=quiet,
    )
    replica = serve.deployment(
        serve.ingress()(Replica),
        name="replica",
        ray_actor_options={"num_cpus": scaling.cpus_a_replica, "num_gpus": 0 if on_cpu else 1},
        # Refusing is the replica's: it knows the wait, and says so in Retry-After. Serve only routes around full ones.
        max_ongoing_requests=settings.max_requests + _SPARE_REQUESTS,
        max_queued_requests=settings.max_requests,
        graceful_shutdown_timeout_s=settings.drain_s,
        max_constructor_retry_count=2,
        health_check_period_s=5,
        logging_config=quiet,
        autoscaling_config=AutoscalingConfig(
            min_replicas=scaling.min_replicas,
            initial_replicas=scaling.min_replicas,
            max_replicas=scaling.max_replicas,
            look_back_period_s=15,
            upscale_delay_s=scaling.upscale_s,
            downscale_delay_s=scaling.downscale_s,
            policy=AutoscalingPolicy(
                policy_function="service.ray_app:ByFaces",
                policy_kwargs={"faces_a_replica": scaling.faces_a_replica},
            ),
        ),
    )
    return replica.bind(settings, make_engine, shared.bind(settings))


def run(settings: Settings, scaling: Scaling, make_engine: Callable[[], Engine] | None = None) -> int:
    """Serves on Ray until a signal; returns the exit code. Work that is in is finished first.

    Raises:
        HonestFaceError: Ray is not installed or does not start, the port is taken, there are too few GPUs, or a replica
            cannot load the bundle.
    """
    configure(settings.log_level)
    port = _free_port(settings.host, settings.port)
    stop = threading.Event()

    def asked_to_stop(number: int, frame: FrameType | None) -> None:
        stop.set()

    with cluster(scaling.max_replicas * scaling.cpus_a_replica) as ray:
        from ray import serve
        from ray.serve.schema import LoggingConfig

        gpus = int(ray.cluster_resources().get("GPU", 0))
        if settings.device != "cpu" and gpus < scaling.max_replicas:
            raise HonestFaceError(f"each replica takes a GPU of its own: there are {gpus} for {scaling.max_replicas}")
        # Only now: Ray installs handlers of its own when it starts.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
                signal.signal(number, asked_to_stop)
        serve.start(
            http_options={
                "host": settings.host,
                "port": port,
                # The replica's own deadline comes first.
                "request_timeout_s": settings.timeout_s + 5,
            },
            logging_config=LoggingConfig(enable_access_log=False),
        )
        try:
            serve.run(build(settings, scaling, make_engine), name=NAME, route_prefix="/")
        except RuntimeError as error:
            why = _last_line(serve.status().applications[NAME])
            serve.shutdown()
            raise HonestFaceError(f"the replicas do not start: {why}") from error
        event("ready", replicas=scaling.min_replicas, port=port)
        stop.wait()
        event("draining")
        # Deleting takes the application out of the proxy and waits for its requests; shutting down would cut them off.
        serve.delete(NAME)
        serve.shutdown()
    event("stopped")
    return 0


def _free_port(host: str, port: int) -> int:
    """The port, any free one for 0."""
    try:
        with socket.create_server((host, port)) as probe:
            return int(probe.getsockname()[1])
    except OSError as error:
        raise HonestFaceError(f"{host}:{port}: {error.strerror or error}") from error


def _last_line(status: Any) -> str:
    """The last line of what a replica said when it failed: its exception."""
    messages = (deployment.message for deployment in status.deployments.values())
    lines = [line.strip() for message in messages for line in message.splitlines() if line.strip()]
    found = next((line for line in reversed(lines) if "Error: " in line), lines[-1] if lines else status.message)
    return str(found)
