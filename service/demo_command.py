"""`honestface demo`: a photograph degraded, restored with a reference, and laid side by side."""

from pathlib import Path
from typing import Annotated

import typer


def demo(out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("demo")) -> None:
    """Degrade a public-domain portrait, restore it with a reference and leave before and after in a folder."""
