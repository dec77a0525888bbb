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
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS or os.environ.get("HONESTFACE_DEBUG"):
            raise
        print(f"honestface: {package} is needed: pip install 'honestface[{EXTRAS[package]}]'", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        # Imported only now: it is as light as this module, but models must not slow the help down.
        from models.errors import HonestFaceError

        if not isinstance(error, HonestFaceError) or os.environ.get("HONESTFACE_DEBUG"):
            raise
        print(f"honestface: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
