"""`honestface restore`: a photograph, or an archive of them, restored with references of the same person."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.choices import LARGEST_UPSCALE, ColourFix, Faces, Precision

if TYPE_CHECKING:
    from models.face_restorer import FaceRestorer


def restore(
    photo: Annotated[
        Path,
        typer.Argument(
            help="A picture, a folder of pictures, or a .txt file that names one a line.", show_default=False
        ),
    ],
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
        Faces,
        typer.Option(help="Restore the largest face, all, or take the picture as one aligned face."),
    ] = "largest",
    strength: Annotated[float, typer.Option(min=0, max=1, help="From the input (0) to the restored face (1).")] = 1.0,
    color_fix: Annotated[ColourFix, typer.Option(help="How the input's colours are kept.")] = "wavelet",
    upscale: Annotated[
        int, typer.Option(min=1, max=LARGEST_UPSCALE, help="So many times as large is the picture that is written.")
    ] = 1,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Sample with this seed.", show_default="the most likely result")
    ] = None,
    device: Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu, cuda, cuda:1.")] = "auto",
    precision: Annotated[
        Precision,
        typer.Option(
            help="Precision of the generator; auto: bfloat16 where the device has it and the bundle is made for it."
        ),
    ] = "auto",
    bundle: Annotated[Path | None, typer.Option(help="Bundle folder.", show_default="the embedded tiny bundle")] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="For a folder or list: add a line of JSON for each picture to this file.")
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            min=0, help="For a folder or list: so many processes on Ray Data (docs/scaling.md); 0: only this."
        ),
    ] = 0,
) -> None:
    """Restore the faces of a photograph; with references the person stays who they are.

    A folder or list is worked through picture by picture: what is finished already is skipped, and what fails is listed
    at the end.
    """
    from models.errors import HonestFaceError, PictureError
    from models.face_restorer import REDUCED_SIDE, Options
    from service.logs import ignore_warnings_of_pictures
    from service.restore_archive import Plan, check_overwritten, plan_folder, plan_list, restore_archive, restore_each
    from service.restore_files import (
        FileRestorer,
        Targets,
        generated_warning,
        is_archive,
        one_line,
        prepare_references,
        read_picture,
    )

    ignore_warnings_of_pictures()
    try:
        photo.lstat()  # before what the other names would have to be for it
    except OSError as error:
        raise PictureError(one_line(photo, error)) from error
    targets = Targets(output, report, compare)
    archive = is_archive(photo)
    if (manifest or workers) and not archive:
        raise typer.BadParameter("--manifest and --workers are for a folder or a list of pictures")
    if complaint := targets.complaint(photo, reference or []):
        raise typer.BadParameter(complaint)
    options = Options(faces, strength, color_fix, seed, "full" if report else "summary", upscale)
    # All that can be wrong with the files is found before the seconds that loading takes.
    plan = (plan_folder if photo.is_dir() else plan_list)(photo, targets) if archive else Plan([])
    check_overwritten(plan.entries, targets, reference or [])
    picture = None if archive else read_picture(photo, upscale)
    pictures = [read_picture(path, least_side=REDUCED_SIDE) for path in reference or []]
    names = [str(path) for path in reference or []]
    for path, shown in zip(reference or [], pictures, strict=True):
        if shown.generated:
            typer.echo(f"warning: {generated_warning(path)}", err=True)
    model = describe_model(bundle)

    if workers:
        from service.ray_archive import restore_on_ray

        # Here the references are made once, on the CPU; each worker loads the bundle for itself, where its device is.
        prepared = prepare_references(load_restorer(bundle, "cpu"), reference or [], pictures) if pictures else []
        make = partial(load_restorer, bundle, device, precision)
        restore = partial(restore_on_ray, make, prepared, names, options, model, targets, workers, device)
        raise typer.Exit(1 if restore_archive(plan, targets, restore, manifest) else 0)
    restorer = load_restorer(bundle, device, precision)
    prepared = prepare_references(restorer, reference or [], pictures)
    files = FileRestorer(restorer, prepared, names, options, model)
    if picture is None:
        raise typer.Exit(1 if restore_archive(plan, targets, partial(restore_each, files, targets), manifest) else 0)
    try:
        done = files.restore(photo, picture, targets)
    except (OSError, MemoryError, RuntimeError) as error:  # the last two where memory does not suffice
        raise HonestFaceError(one_line(photo, error)) from error
    for warning in done.warnings:
        typer.echo(f"warning: {warning}", err=True)
    restored = "1 face" if done.faces == 1 else f"{done.faces} faces"
    typer.echo(f"{output}: {restored} restored in {done.seconds:.1f} s")


def describe_model(bundle: Path | None) -> dict[str, str]:
    """The `model` of the service's answers, of a bundle that need not be loaded.

    Raises:
        BundleError: there is no such bundle.
    """
    from models.bundle import TINY_BUNDLE, read_manifest

    manifest = read_manifest(bundle or TINY_BUNDLE)
    return {"bundle": manifest.name, "version": manifest.version, "profile": manifest.profile}


def load_restorer(bundle: Path | None, device: str, precision: Precision = "auto") -> "FaceRestorer":
    """The restorer of a bundle, the embedded one if none is named, on a device ("auto": a GPU if there is one).

    PyTorch runs it: converting for OpenVINO takes seconds, which only a process that stays earns back.

    Raises:
        HonestFaceError: the bundle cannot be loaded or there is no such device.
    """
    import torch

    from service.engine import load_engine

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return load_engine(bundle, device, precision, "torch").restorer
