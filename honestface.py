"""The `honestface` command: the service's and the training's commands side by side."""

import os
import sys

import typer

import service.cli
import training.cli

# Commands import torch and its kin inside their functions, so that `honestface --help` answers at once.
app = typer.Typer(
    name="honestface",
    help="Face restoration that stays true to the person.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(service.cli.app)
app.add_typer(training.cli.app)


def main() -> None:
    """Runs the command line; an error that the user can act on is one line on stderr and exit code 1."""
    try:
        app()
    except Exception as error:
        # Imported only now: it is as light as this module, but models must not slow the help down.
        from models.errors import HonestFaceError

        if not isinstance(error, HonestFaceError) or os.environ.get("HONESTFACE_DEBUG"):
            raise
        print(f"honestface: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
