"""`honestface train STAGE --config FILE`: every stage of the recipe as a command."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)


class StageName(StrEnum):
    """In the order in which they are trained."""

    detector = "detector"
    landmarks = "landmarks"
    identity = "identity"
    vae = "vae"
    vre = "vre"
    baseline = "baseline"
    honestface = "honestface"


@app.command()
def train(
    stage: Annotated[StageName, typer.Argument(help="What to train.")],
    config: Annotated[Path, typer.Option(help="YAML settings; training/configs has the shipped ones.")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE over the file's settings; repeatable.")] = None,
) -> None:
    """Train one stage; run it again to go on from its last checkpoint."""
    from training.run import run

    run(stage.value, config, set_ or [])
