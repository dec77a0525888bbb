"""`honestface serve`: the HTTP service on one device."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. [default: HONESTFACE_HOST or 127.0.0.1]")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on. [default: HONESTFACE_PORT or 8000]")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle folder. [default: the embedded tiny bundle]")] = None,
    device: Annotated[str | None, typer.Option(help="Device: cpu, cuda, cuda:1. [default: cpu]")] = None,
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"] | None,
        typer.Option(help="Precision of the generator. [default: auto, bfloat16 on a GPU and where the CPU has it]"),
    ] = None,
) -> None:
    """Serve POST /restore and the playground; every setting has a HONESTFACE_* variable (docs/service.md)."""
    from service.engine import Engine, load_engine
    from service.server import run
    from service.settings import Settings

    given = {"host": host, "port": port, "bundle": bundle, "device": device, "precision": precision}
    settings = Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]

    def engine() -> Engine:
        s = settings
        return load_engine(s.bundle, s.device, s.precision, s.library, s.device_threads)

    raise typer.Exit(run(settings, engine))
