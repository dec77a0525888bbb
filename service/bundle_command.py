"""`honestface bundle verify|show`: what a bundle holds, and whether its files are what it says."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from models.bundle import ModelCard

Folder = Annotated[Path | None, typer.Argument(help="Bundle folder; none: the embedded tiny bundle.")]


def verify(folder: Folder = None) -> None:
    """Check every file of a bundle against the sizes and checksums in its bundle.json."""
    from models.bundle import TINY_BUNDLE, verify_bundle

    manifest = verify_bundle(folder or TINY_BUNDLE)
    total = sum(file.bytes for file in manifest.files.values())
    files = f"{len(manifest.files)} files, {total / 1e6:.1f} MB"
    print(f"{manifest.name} {manifest.version}: {files}, all as bundle.json says")


def show(folder: Folder = None) -> None:
    """Print what a bundle says of itself: version, profile, licence, provenance, model card, metrics and files."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from models.bundle import TINY_BUNDLE, read_manifest

    manifest = read_manifest(folder or TINY_BUNDLE)
    facts: dict[str, object] = {
        "name": manifest.name,
        "version": manifest.version,
        "profile": manifest.profile,
        "licence": manifest.licence,
        "provenance": manifest.provenance,
        "training data": ", ".join(manifest.training_data),
        "matching angle": f"{manifest.matching_angle:g} degrees",
        **(_card(manifest.card) if manifest.card else {}),
        **dict(_flat("metric:", manifest.metrics)),
    }
    about = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        about.add_row(name, escape(str(value)))
    Console(soft_wrap=True).print(about)
    print()
    # Plain lines in the form of sha256sum, so that `sha256sum --check` takes them.
    for name, file in manifest.files.items():
        print(f"{file.sha256}  {name}")


def _card(card: "ModelCard") -> dict[str, object]:
    return {
        "intended use": card.intended_use,
        "not for": card.unintended_use,
        "degradation": card.degradation,
        "recipe": card.recipe,
        **{f"limit {number}": limit for number, limit in enumerate(card.limits, 1)},
    }


def _flat(name: str, values: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """A line for each value, and one for each mapping that holds nothing but values."""
    for key, value in values.items():
        if isinstance(value, Mapping) and any(isinstance(inner, Mapping) for inner in value.values()):
            yield from _flat(f"{name} {key}", value)
        elif isinstance(value, Mapping):
            yield f"{name} {key}", ", ".join(f"{column} {figure}" for column, figure in value.items())
        else:
            yield f"{name} {key}", value
