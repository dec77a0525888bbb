"""Every setting of the service: a field here is `HONESTFACE_<NAME>` in the environment and a row in docs/service.md."""

import os
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models.choices import Library, Precision
from models.errors import HonestFaceError

MEGABYTE = 1_000_000
# Variables that others read: the command line, and compose where it is told more cores or bundles. A file of keys that
# only compose reads would leave a service open that runs without it.
_NO_SETTINGS = {"HONESTFACE_DEBUG", "HONESTFACE_CPUS", "HONESTFACE_BUNDLES"}
# What Kubernetes puts into pods beside Services whose names begin like ours.
_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT)|_PORT(_\d+_(TCP|UDP|SCTP)|=(tcp|udp|sctp)://)")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Where container engines put secrets: a file here, named like its variable in small letters, is a setting too.
_SECRETS = Path("/run/secrets")


class Settings(BaseSettings):
    """The service's settings; sizes in bytes, times in the unit that the name ends with."""

    model_config = SettingsConfigDict(
        env_prefix="HONESTFACE_",
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        secrets_dir=_SECRETS if _SECRETS.is_dir() else None,
    )

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    bundle: Path | None = Field(None, description="Bundle folder; unset: the embedded `tiny` bundle.")
    device: str = Field("cpu", description="Device of the generator: `cpu`, `cuda`, `cuda:1`.")

    precision: Precision = Field(
        "auto",
        description="`float32`, `bfloat16`, on a GPU `float16`, on a CPU with OpenVINO `int8`; `auto`: bfloat16 where "
        "the CPU has it, else int8 where it has AVX2, and on a GPU bfloat16 for `sd21` bundles (the tiny one runs in "
        "float32 there).",
    )
    library: Library = Field(
        "auto",
        description="What runs the generator on a CPU: `torch` or `openvino`; `auto`: OpenVINO where it is installed.",
    )

    max_file_bytes: int = Field(20 * MEGABYTE, ge=1, description="Largest uploaded file.")
    max_request_bytes: int = Field(64 * MEGABYTE, ge=1, description="Largest request body.")
    max_megapixels: float = Field(64.0, gt=0, description="Largest picture, width x height, read from its header.")
    max_references: int = Field(16, ge=0, description="References in a request or a reference set.")
    max_faces: int = Field(32, ge=1, description="Faces restored in one picture (`faces=all`), if so many may wait.")

    max_batch: int = Field(
        0,
        ge=0,
        description="Faces that the device takes at once; 0: 8 on a GPU, 1 on a CPU, where batches save nothing.",
    )
    batch_wait_ms: float = Field(3.0, ge=0, description="How long the first face of a batch waits for others.")
    queue_faces: int = Field(64, ge=1, description="Faces waiting for the device; more answer 429.")
    max_requests: int = Field(64, ge=1, description="Requests in work at once, uploads included; more answer 429.")
    upload_bytes: int = Field(
        512 * MEGABYTE, ge=1, description="Uploads of all requests in work together; more answer 429."
    )
    answer_bytes: int = Field(
        512 * MEGABYTE,
        ge=1,
        description="Answers that clients have yet to take, of all connections together; past it whoever has been "
        "taking one for longest is let go.",
    )
    memory_megapixels: float = Field(
        256.0, gt=0, description="Decoded pixels in work at once; further pictures wait before they are decoded."
    )
    cpu_workers: int = Field(2, ge=1, description="Threads that decode, align, paste back and encode.")
    device_threads: int = Field(0, ge=0, description="Threads of the generator on a CPU device; 0: one a core.")
    timeout_s: float = Field(
        60.0, gt=0, description="A request's deadline, and the longest that X-Request-Timeout may ask."
    )

    upload_idle_s: float = Field(
        10.0, gt=0, description="An upload that brings less than 4 KiB in so long is given up."
    )

    cache_bytes: int = Field(256 * MEGABYTE, ge=0, description="Analysed references kept by content (LRU).")
    cache_ttl_s: float = Field(900.0, gt=0, description="How long an analysed reference is kept after its last use.")
    reference_sets_bytes: int = Field(512 * MEGABYTE, ge=0, description="All reference sets together (LRU).")
    reference_set_ttl_s: float = Field(3600.0, gt=0, description="How long a reference set is kept after its last use.")

    drain_s: float = Field(30.0, ge=0, description="After SIGTERM: the longest that work in flight is waited for.")
    stall_s: float = Field(
        120.0,
        gt=0,
        description="A device thread silent for longer, or a decoding thread longer at one task, turns /livez to 503.",
    )
    death_grace_s: float = Field(2.0, ge=0, description="From the device thread's death to the process's exit.")

    api_keys: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="SHA-256 (hex) of each accepted key, separated by commas or lines; `honestface api-key` makes one. "
        "Empty: open.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins that browsers may call from, comma separated. Empty: none."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")

    @field_validator("api_keys", "cors_origins", mode="before")
    @classmethod
    def _separated(cls, value: object) -> object:
        return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value

    @field_validator("api_keys")
    @classmethod
    def _hashed(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(_SHA256.fullmatch(key) for key in value):
            raise ValueError(
                "a key is given as its SHA-256 in 64 lower-case hex digits; `honestface api-key` prints it"
            )
        return value

    @property
    def faces_a_batch(self) -> int:
        """`max_batch`, decided by the device where it is left open."""
        return self.max_batch or (1 if self.device == "cpu" else 8)

    @property
    def faces_a_picture(self) -> int:
        """`max_faces`, as far as so many may wait."""
        return min(self.max_faces, self.queue_faces)

    @property
    def max_pixels(self) -> int:
        return int(self.max_megapixels * 1e6)


def read_settings(given: dict[str, object]) -> Settings:
    """Settings from what is given, the environment and secrets.

    Raises:
        HonestFaceError: values that will not do, in one line that does not repeat them: one may be a secret.
    """
    _check_names()
    _check_secrets(_SECRETS)
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        wrong = (
            f"HONESTFACE_{'_'.join(str(part) for part in each['loc']).upper()}: {each['msg']}"
            for each in error.errors()
        )
        raise HonestFaceError("; ".join(wrong)) from None


def _check_names() -> None:
    """A misspelt variable might have been the one that closes the service."""
    known = {f"HONESTFACE_{name}".upper() for name in Settings.model_fields} | _NO_SETTINGS
    for name, value in sorted(os.environ.items()):
        if not name.startswith("HONESTFACE_") or name in known or _SERVICE_LINK.search(f"{name}={value}"):
            continue
        raise HonestFaceError(f"{name} is no setting{_like(name, known)}")


def _check_secrets(folder: Path) -> None:
    """A secret that is misspelt or cannot be read must not leave the service open."""
    names = {f"honestface_{name}" for name in Settings.model_fields}
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        name = file.name.lower()
        if not name.startswith("honestface_"):
            continue
        if name not in names:
            raise HonestFaceError(f"{file} is no setting{_like(name, names)}")
        if not (file.is_file() and os.access(file, os.R_OK)):
            raise HonestFaceError(f"{file} is not a file that this user can read")


def _like(name: str, known: set[str]) -> str:
    return "".join(f"; {other} is" for other in get_close_matches(name, known, 1))
