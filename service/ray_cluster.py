"""Ray, so brought up that pictures stay where they belong: loopback only, no telemetry, nothing of them on disk."""

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from models.errors import HonestFaceError

#: What Ray keeps of pictures lies in memory: uploads, answers and references on their way between processes.
_MEMORY = "/dev/shm"
_OBJECT_STORE_BYTES = 512 * 2**20

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray's own switch for machines that form no cluster: it then listens on the loopback interface.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Ray runs whatever it is sent: each call must carry a token that only this run's processes know.
    "RAY_AUTH_MODE": "token",
    # Five seconds are short for a process that starts beside others that load their networks.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
}


def import_ray() -> Any:
    """The `ray` package, told to send no usage statistics.

    Raises:
        HonestFaceError: the extra is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if "RAY_ADDRESS" not in os.environ:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        if os.environ["RAY_AUTH_MODE"] == "token" and "RAY_AUTH_TOKEN_PATH" not in os.environ:
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
    except ModuleNotFoundError as error:
        raise HonestFaceError("several workers need Ray: pip install 'honestface[ray]'") from error
    return ray


def keep_to_loopback() -> None:
    """To be called in a Serve replica before it listens: on a Ray of this machine alone, on the loopback only.

    Serve gives a replica's internal server no setting for that and listens on every interface.
    """
    if os.environ.get("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER") == "0":
        from ray.serve._private import replica

        listen = replica.add_port_to_grpc_server
        replica.add_port_to_grpc_server = lambda server, address: listen(server, address.replace("[::]", "127.0.0.1"))


@contextmanager
def cluster(cpus: int) -> Iterator[Any]:
    """The `ray` package, connected until the block ends: to the cluster that RAY_ADDRESS names, or to a Ray of
    this machine alone that offers `cpus` CPUs to be shared out and every GPU.

    Raises:
        HonestFaceError: Ray is not installed or does not start.
    """
    ray = import_ray()
    how: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if "RAY_ADDRESS" not in os.environ:
        how |= {
            "address": "local",
            "num_cpus": cpus,
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
            "_plasma_directory": _MEMORY,
            # Nothing is spilled; what does not fit is placed in files here, which is memory as well.
            "object_spilling_directory": _MEMORY,
            # Ray would run its workers at the lowest priority.
            "_system_config": {"automatic_object_spilling_enabled": False, "worker_niceness": 0},
        }
    try:
        ray.init(**how)
    except Exception as error:
        raise HonestFaceError(
            f"Ray does not start: {(str(error).splitlines() or [type(error).__name__])[0]}"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()
