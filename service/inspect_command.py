"""`honestface inspect`: what a profile's networks cost, and Table 3a of the paper beside ours."""

from typing import Annotated, Literal

import typer


def inspect(
    profile: Annotated[
        Literal["tiny", "sd21"], typer.Option(help="The networks to build: the paper's, or the small ones.")
    ] = "sd21",
    references: Annotated[int, typer.Option(min=1, help="Number of reference photographs of the person.")] = 4,
) -> None:
    """Count parameters and MACs of a profile from its configuration alone: no weights are needed or loaded."""
    from rich.console import Console
    from rich.table import Table

    from models.profiles import PROFILES
    from models.table_3a import ACCOUNTING, compare, components

    console = Console()
    parts = components(PROFILES[profile], references)
    table = Table(title=f"{profile}: one face of 512 px with {references} references", title_justify="left")
    table.add_column("component")
    for heading in ("parameters M", "GMACs", "attention GMACs"):
        table.add_column(heading, justify="right")
    if profile == "sd21":
        table.add_column("counted in parameters of")
        table.add_column("counted in MACs of")
    for part in parts:
        cost = part.cost
        row = [part.name, f"{cost.parameters / 1e6:.3f}", f"{cost.macs / 1e9:.2f}", f"{cost.attention_macs / 1e9:.2f}"]
        table.add_row(*row, *((", ".join(part.parameters_of), ", ".join(part.macs_of)) if profile == "sd21" else ()))
    console.print(table)
    if profile != "sd21":
        return
    table = Table(title="Table 3a of the paper beside ours", title_justify="left")
    table.add_column("model")
    table.add_column("quantity")
    for heading in ("paper", "ours", "difference"):
        table.add_column(heading, justify="right")
    for figure in compare(parts):
        unit = "parameters M" if figure.quantity == "parameters" else "GMACs"
        table.add_row(figure.model, unit, f"{figure.paper:,.1f}", f"{figure.ours:,.1f}", f"{figure.difference:+.2%}")
    console.print(table)
    for line in ACCOUNTING:
        console.print(line, highlight=False)
