"""`honestface bundle verify|show`: what a bundle holds, and whether its files are what it says."""

from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[Path | None, typer.Argument(help="Bundle folder. [default: the embedded tiny bundle]")]


def verify(folder: Folder = None) -> None:
    """Check every file of a bundle against the checksums in its bundle.json."""
    from models.bundle import Bundle, embedded_bundle

    bundle = Bundle.open(folder or embedded_bundle())
    bundle.verify()
    print(f"{bundle.name} {bundle.version}: {len(bundle.files)} files, all as bundle.json says")


def show(folder: Folder = None) -> None:
    """Print what a bundle holds: versions, components, licences, provenance and metrics."""
