"""The `honestface` command: the service's and the training's commands side by side."""

import os
import sys
from importlib.metadata import version
from typing import Annotated

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


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"honestface {version('honestface')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


#: Packages that commands import, by the extra that brings them.
EXTRAS = {
    **dict.fromkeys(
        ("accelerate", "onnx", "onnxruntime", "peft", "skimage", "tensorboard", "transformers", "yaml"), "train"
    ),
    **dict.fromkeys(("pyiqa", "torchvision"), "metrics"),
}


def main() -> None:
    """Runs the command line; an error that the user can act on is one line on stderr and exit code 1."""
    try:
        app()
    except Exception as error:
        told = _told(error)
        if told is None or os.environ.get("HONESTFACE_DEBUG"):
            raise
        print(f"honestface: {told}", file=sys.stderr)
        sys.exit(1)


def _told(error: Exception) -> str | None:
    """What a user can act on, in one line: our own errors, a missing package, a file that cannot be read or written."""
    # Imported only now: it is as light as this module, but models must not slow the help down.
    from models.errors import HonestFaceError

    match error:
        case HonestFaceError():
            return str(error)
        case ModuleNotFoundError(name=str(name)) if (package := name.partition(".")[0]) in EXTRAS:
            return f"{package} is needed: pip install 'honestface[{EXTRAS[package]}]'"
        case OSError(filename=name, strerror=str(reason)) if name is not None:
            return f"{name}: {reason}"
    return None


if __name__ == "__main__":
    main()
