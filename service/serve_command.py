"""`honestface serve`: the HTTP service on one device."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.choices import Precision

if TYPE_CHECKING:
    from service.settings import Settings


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", show_default="HONESTFACE_HOST or 127.0.0.1")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.", show_default="HONESTFACE_PORT or 8000")] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(help="Bundle folder.", show_default="HONESTFACE_BUNDLE or the embedded tiny bundle"),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="Device: cpu, cuda, cuda:1.", show_default="HONESTFACE_DEVICE or cpu"),
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(
            help="Precision of the generator; auto: bfloat16 where the device has it and the bundle is made for it, "
            "else int8 where a CPU has it.",
            show_default="HONESTFACE_PRECISION or auto",
        ),
    ] = None,
    replicas: Annotated[
        str | None,
        typer.Option(
            help="Several copies on Ray Serve, one a device: 4, or 1-4 by the faces that wait (docs/scaling.md)."
        ),
    ] = None,
) -> None:
    """Serve POST /restore and the playground; every setting has a HONESTFACE_* variable (docs/service.md)."""
    # Threads that wait for one another must sleep, not spin: decoding, encoding and strangers need the cores as well.
    # Has to be said before PyTorch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

    from service.engine import engine_of
    from service.server import exit_soon, run
    from service.settings import read_settings

    given = {"host": host, "port": port, "bundle": bundle, "device": device, "precision": precision}
    settings = read_settings({name: value for name, value in given.items() if value is not None})
    if replicas is not None:
        raise typer.Exit(_run_on_ray(settings, replicas))
    code = run(settings, lambda: engine_of(settings))
    exit_soon(code)
    raise typer.Exit(code)


def _run_on_ray(settings: "Settings", replicas: str) -> int:
    from pydantic import ValidationError

    from service.ray_app import Scaling, run

    least, dash, most = replicas.partition("-")
    try:
        scaling = Scaling.model_validate({"min_replicas": least, "max_replicas": most if dash else least})
    except ValidationError as error:
        raise typer.BadParameter(f"replicas are a number from 1, or two such as 1-4, not {replicas!r}") from error
    return run(settings, scaling)
