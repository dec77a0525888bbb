"""`honestface inspect`: what a profile's networks cost, and Table 3a of the paper beside ours."""

from typing import TYPE_CHECKING, Annotated

import typer

from models.choices import ProfileName

if TYPE_CHECKING:
    from rich.table import Table

    from models.table_3a import Comparison, Component


def inspect(
    profile: Annotated[
        ProfileName, typer.Option(help="The networks to build: the paper's, or the small ones.")
    ] = "sd21",
    references: Annotated[int, typer.Option(min=1, help="Number of reference photographs of the person.")] = 4,
) -> None:
    """Count parameters and MACs of a profile from its configuration alone: no weights are needed or loaded."""
    from rich.console import Console

    from models.profiles import PROFILES
    from models.table_3a import ACCOUNTING, compare, components

    console = Console(highlight=False)
    parts = components(PROFILES[profile], references)
    console.print(f"{profile}: one face of 512 px with {references} references\n")
    console.print(_components(parts, accounting=profile == "sd21"))
    if profile == "sd21":
        console.print("\nTable 3a of the paper beside ours\n")
        console.print(_comparison(compare(parts)))
        console.print("\n" + "\n".join(f"- {line}" for line in ACCOUNTING))


def _components(parts: "list[Component]", accounting: bool) -> "Table":
    """One row a part; with `accounting` also which model's sums in the paper hold it."""
    table = _table("component", "params M", "GMACs", "attention")
    if accounting:
        table.add_column("params of")
        table.add_column("MACs of")
    for part in parts:
        cost = part.cost
        row = [part.name, f"{cost.parameters / 1e6:.3f}", f"{cost.macs / 1e9:.2f}", f"{cost.attention_macs / 1e9:.2f}"]
        if accounting:
            row += ["both" if len(models) == 2 else "".join(models) for models in (part.parameters_of, part.macs_of)]
        table.add_row(*row)
    return table


def _comparison(figures: "list[Comparison]") -> "Table":
    table = _table("model", "paper", "ours", "difference")
    for figure in figures:
        unit = "parameters M" if figure.quantity == "parameters" else "GMACs"
        name = f"{figure.model}, {unit}"
        difference = round(figure.difference, 4) + 0.0  # without "-0.00%"
        table.add_row(name, f"{figure.paper:,.1f}", f"{figure.ours:,.1f}", f"{difference:+.2%}")
    return table


def _table(first: str, *numbers: str) -> "Table":
    from rich.table import Table

    table = Table(first, box=None, pad_edge=False)
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table
