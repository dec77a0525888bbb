"""`honestface restore`: a photograph, or a folder of them, restored with references of the same person."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from models.face_restorer import FaceRestorer


def restore(
    photo: Annotated[Path, typer.Argument(help="A picture, or a folder of pictures.", show_default=False)],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The restored picture (.png, .jpg, .webp), or a folder for a folder."),
    ],
    reference: Annotated[
        list[Path] | None,
        typer.Option("--reference", "-r", help="A good photograph of the same person; repeatable."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write the honesty report with its maps as JSON; a folder for a folder.")
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(help="Write before and after side by side; a folder for a folder.")
    ] = None,
    faces: Annotated[
        Literal["largest", "all", "aligned"],
        typer.Option(help="Restore the largest face, all, or take the picture as one aligned face."),
    ] = "largest",
    strength: Annotated[float, typer.Option(min=0, max=1, help="From the input (0) to the restored face (1).")] = 1.0,
    color_fix: Annotated[
        Literal["none", "wavelet", "adain"], typer.Option(help="How the input's colours are kept.")
    ] = "wavelet",
    seed: Annotated[
        int | None, typer.Option(min=0, help="Sample with this seed. [default: the most likely result]")
    ] = None,
    device: Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu, cuda, cuda:1.")] = "auto",
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        typer.Option(help="Precision of the generator; auto is bfloat16 on a GPU and where the CPU has it."),
    ] = "auto",
    bundle: Annotated[Path | None, typer.Option(help="Bundle folder. [default: the embedded tiny bundle]")] = None,
) -> None:
    """Restore the faces of a photograph; with references the person stays who they are.

    A folder is worked through file by file: what is finished already is skipped, and what fails is listed at the end.
    """
    from models.errors import HonestFaceError
    from models.face_restorer import Options
    from service.restore_files import FileRestorer, Targets, one_line, plan_folder, read_picture, restore_folder

    targets = Targets(output, report, compare)
    whole_folder = photo.is_dir()
    if complaint := targets.complaint(photo, reference or []):
        raise typer.BadParameter(complaint)
    options = Options(faces, strength, color_fix, seed, "full" if report else "summary")
    # All that can be wrong with the files is found before the seconds that loading takes.
    plan = plan_folder(photo, targets) if whole_folder else []
    picture = None if whole_folder else read_picture(photo)
    pictures = [read_picture(path) for path in reference or []]
    names = [str(path) for path in reference or []]

    restorer = load_restorer(bundle, device, precision)
    files = FileRestorer(restorer, restorer.prepare_references(pictures, names), names, options)
    if picture is None:
        raise typer.Exit(1 if restore_folder(files, plan) else 0)
    try:
        done = files.restore(photo, picture, targets)
    except OSError as error:
        raise HonestFaceError(one_line(photo, error)) from error
    for warning in done.warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(f"{output}: {done.summary}")


def load_restorer(
    bundle: Path | None, device: str, precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
) -> "FaceRestorer":
    """The restorer of a bundle, the embedded one if none is named, on a device.

    PyTorch runs it: converting for OpenVINO takes seconds, which only a process that stays earns back.

    Raises:
        HonestFaceError: the bundle cannot be loaded or there is no such device.
    """
    import torch

    from models.bundle import load_bundle
    from models.errors import HonestFaceError
    from models.face_restorer import FaceRestorer
    from models.runtime import make_runtime

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise HonestFaceError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from error
    loaded = load_bundle(bundle)
    generator = make_runtime(loaded.generator, precision, "torch", device=device).generator
    return FaceRestorer(generator, loaded.analyzer, device)
