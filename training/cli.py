"""`honestface train STAGE --config FILE`, and what goes before and after: data, labels, sheets, evaluation, packing."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from models.choices import ColourFix

app = typer.Typer(no_args_is_help=True)

HELD_OUT_PEOPLE = "Of a folder per person: the first so many are val, as in training; every tenth by default."


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
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE over the file's settings; repeatable.")
    ] = None,
) -> None:
    """Train one stage; run it again to go on from its last checkpoint."""
    from training.run import run

    run(stage.value, config, set_ or [])


@app.command()
def blend_faces(
    data: Annotated[
        list[Path],
        typer.Option(
            help="Folder of faces with labels.npz; repeatable: of more, who is too like val of the first stays out."
        ),
    ],
    teacher: Annotated[Path, typer.Option(help="Recogniser (ONNX) of ArcFace-112 crops, RGB 0..255: SFace.")],
    out: Annotated[Path, typer.Option(help="Folder of the blends, without labels: an `extra` of the identity stage.")],
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 30_000,
    held_out_people: Annotated[int | None, typer.Option(min=1, help=HELD_OUT_PEOPLE)] = None,
) -> None:
    """Blend faces of different people and let the teacher describe them, for the identity stage."""
    from training.blended_faces import blend_faces as write
    from training.blended_faces import pictures_to_blend
    from training.onnx_recogniser import OnnxRecogniser, RecogniserConfig

    recogniser = OnnxRecogniser(RecogniserConfig(path=teacher, mean=0, std=1))
    write(pictures_to_blend(data, held_out_people), recogniser, out, count)


@app.command()
def evaluate(
    context: typer.Context,
    data: Annotated[Path, typer.Option(help="Folder of aligned faces: with index.csv, or a folder per person.")],
    out: Annotated[Path, typer.Option(help="Folder for the table (Markdown, CSV, JSON) and the picture sheet.")],
    bundle: Annotated[Path | None, typer.Option(help="Bundle to measure; the embedded one by default.")] = None,
    preset: Annotated[str, typer.Option(help="Degradation: vqfr-v1, vqfr-v2, wide, small, mild or print.")] = "vqfr-v2",
    split: Annotated[str, typer.Option(help="Part of the data.")] = "val",
    held_out_people: Annotated[int | None, typer.Option(min=1, help=HELD_OUT_PEOPLE)] = None,
    count: Annotated[int, typer.Option(min=1, help="At most this many faces.")] = 1000,
    draws: Annotated[int, typer.Option(min=1, help="How often each face is degraded anew.")] = 1,
    references: Annotated[int, typer.Option(min=1, help="At most so many of a person's other pictures a face.")] = 2,
    vgg16: Annotated[Path | None, typer.Option(help="VGG16 features (Caffe order) for the feature distance.")] = None,
    lpips: Annotated[Path | None, typer.Option(help="torchvision's AlexNet state dict, for LPIPS.")] = None,
    dists: Annotated[Path | None, typer.Option(help="torchvision's VGG16 state dict, for DISTS.")] = None,
    pyiqa: Annotated[
        bool, typer.Option("--pyiqa", help="CLIP-IQA, MANIQA, MUSIQ, FID and MS-SWD; downloads their weights.")
    ] = False,
    color_fix: Annotated[ColourFix, typer.Option(help="How the input's colours are kept.")] = "wavelet",
    device: Annotated[str, typer.Option(help="Where the generator runs: cpu, cuda, cuda:1, ...")] = "cpu",
) -> None:
    """Measure a bundle on held-out faces: input, Lanczos, blind, with references, with a wrong person's references."""
    from models.bundle import load_bundle
    from models.errors import HonestFaceError
    from training.degradation import PRESETS
    from training.evaluation import evaluate as measure
    from training.evaluation import make_ready
    from training.faces import load_faces
    from training.images import save_sheet
    from training.metrics import MetricFiles

    if preset not in PRESETS:
        raise HonestFaceError(f"--preset is one of {', '.join(PRESETS)}, not {preset}")
    make_ready(out, device)
    files = MetricFiles(vgg16, lpips, dists, pyiqa)
    loaded = load_bundle(bundle, device)
    faces = load_faces(data, split, held_out_people)
    found = measure(loaded, faces, preset, count, files, color_fix, device, references, draws)
    (out / f"{preset}.md").write_text(found.markdown() + "\n")
    (out / f"{preset}.csv").write_text(found.csv())
    (out / f"{preset}.json").write_text(found.json(_as_given(context)))
    save_sheet(found.sheet, out / f"{preset}.png")
    typer.echo(found.markdown())


def _as_given(context: typer.Context) -> str:
    """The command line, with an option's name in capitals for its file or folder: no path of this machine."""
    words = [context.command_path]
    for name, value in context.params.items():
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            words.append(f"--{name.replace('_', '-')}")
            if value is not True:
                words.append(name.upper() if isinstance(value, Path) else str(value))
    return " ".join(words)


@app.command()
def label_faces(
    data: Annotated[Path, typer.Option(help="Folder of aligned faces without labels.npz.")],
    bundle: Annotated[Path | None, typer.Option(help="Whose landmark network; the embedded bundle by default.")] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="Recogniser (ONNX) as of blend-faces: writes its descriptors (sface) too.")
    ] = None,
) -> None:
    """Find the 68 landmarks of every face of a folder, for the landmarks stage and blend-faces; with a teacher, its
    descriptors too, for the identity stage."""
    from models.bundle import load_bundle
    from training.label_faces import label_faces as label
    from training.onnx_recogniser import OnnxRecogniser, RecogniserConfig

    known = OnnxRecogniser(RecogniserConfig(path=teacher, mean=0, std=1)) if teacher else None
    typer.echo(f"{data / 'labels.npz'}: {label(data, load_bundle(bundle).analyzer, known)} faces")


@app.command()
def degrade_sheet(
    data: Annotated[Path, typer.Option(help="Folder of aligned faces: with index.csv, or a folder per person.")],
    out: Annotated[Path, typer.Option(help="The picture to write.")],
    preset: Annotated[str, typer.Option(help="Degradation: vqfr-v1, vqfr-v2, wide, small, mild or print.")] = "vqfr-v2",
    split: Annotated[str, typer.Option(help="Part of the data.")] = "train",
    held_out_people: Annotated[int | None, typer.Option(min=1, help=HELD_OUT_PEOPLE)] = None,
    count: Annotated[int, typer.Option(min=1, help="Faces, one a row.")] = 6,
    draws: Annotated[int, typer.Option(min=1, help="Degradations of each.")] = 6,
    seed: Annotated[int, typer.Option(help="Another seed, other draws.")] = 0,
) -> None:
    """A picture sheet to see what a degradation preset does: the face, then some draws."""
    import numpy as np

    from models.errors import HonestFaceError
    from training.degradation import PRESETS, degrade
    from training.face_index import PICTURE_SUFFIXES
    from training.faces import load_faces
    from training.images import save_sheet

    if preset not in PRESETS:
        raise HonestFaceError(f"--preset is one of {', '.join(PRESETS)}, not {preset}")
    if out.suffix.lower() not in PICTURE_SUFFIXES:
        raise HonestFaceError(f"--out {out}: its name ends in none of {', '.join(sorted(PICTURE_SUFFIXES))}")
    faces = load_faces(data, split, held_out_people)
    rows = []
    for place, index in enumerate(faces.targets[:: max(1, len(faces.targets) // count)][:count]):
        face = faces.enlarged(index)
        rngs = [np.random.default_rng((seed, place, draw)) for draw in range(draws)]
        rows.append([face, *(degrade(face, PRESETS[preset], rng) for rng in rngs)])
    try:
        save_sheet(rows, out)
    except (OSError, ValueError) as error:  # no such folder, or more pixels than the format holds
        raise HonestFaceError(f"{out}: {getattr(error, 'strerror', None) or error}") from None
    typer.echo(f"{out}: {len(rows)} faces, {draws} draws of {preset} each")


@app.command()
def index_data(
    data: Annotated[Path, typer.Option(help="Folder that the sources lie in; its index.csv is written.")],
    source: Annotated[
        list[str],
        typer.Option(
            metavar="FOLDER=HELD_OUT",
            help="A folder with one folder a person, and who is held out: the first so many, or a text file of names.",
        ),
    ],
) -> None:
    """Make one data folder of several data sets, each with a folder per person: who is on which picture, who is val."""
    from models.errors import HonestFaceError
    from training.index_data import index_data as write

    sources = dict(text.partition("=")[::2] for text in source)
    if len(sources) < len(source) or not all(name and held_out for name, held_out in sources.items()):
        raise HonestFaceError("--source is FOLDER=HELD_OUT, each folder once")
    rows = write(data, sources)
    people = {split: len({who for _, who, part, _ in rows if part == split}) for split in ("train", "val")}
    typer.echo(
        f"{data / 'index.csv'}: {len(rows)} pictures, {people['train']} people for training, {people['val']} held out"
    )


@app.command()
def pack_data(
    data: Annotated[Path, typer.Option(help="Folder of aligned faces: with index.csv, or a folder per person.")],
    out: Annotated[Path, typer.Option(help="New folder for the smaller copy.")],
    megabytes: Annotated[float, typer.Option(help="At most so much altogether (1 MB = 10^6 bytes).")] = 60.0,
    held_out_people: Annotated[int | None, typer.Option(min=1, help=HELD_OUT_PEOPLE)] = None,
) -> None:
    """Copy as many people of a face folder as fit, pictures as they are, for a machine that takes little along."""
    from training.packed_data import pack_data as write

    kept = write(data, out, megabytes, held_out_people)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    people = len({file.identity for file in kept})
    typer.echo(f"{out}: {len(kept)} pictures of {people} people, {size / 1e6:.1f} MB")


@app.command()
def pack(
    runs: Annotated[Path, typer.Option(help="Folder with the finished runs, one a stage.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    version: Annotated[str, typer.Option(help="Version of the weights.")],
    matching_angle: Annotated[
        float | None,
        typer.Option(help="Degrees; see the identity stage's validation. By default that of --face-tools."),
    ] = None,
    metrics: Annotated[
        list[Path] | None,
        typer.Option(help="JSON of `honestface evaluate`, for the manifest; once for each degradation."),
    ] = None,
    face_tools: Annotated[
        Path | None, typer.Option(help="Bundle whose face tools to take instead of those of the runs.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Of the weights, where this project did not train them.")] = None,
    generator: Annotated[
        str, typer.Option(help="Run of the generator: honestface, or a blind one such as baseline.")
    ] = "honestface",
) -> None:
    """Put the components of finished runs together as a bundle."""
    from training.pack import pack as write

    manifest = write(
        runs, out, version, matching_angle, metrics or (), face_tools=face_tools, licence=licence, generator=generator
    )
    size = sum(file.bytes for file in manifest.files.values())
    typer.echo(f"{out}: {manifest.name} {manifest.version}, {len(manifest.files)} files, {size / 1e6:.1f} MB")


@app.command()
def measure_ranges(
    bundle: Annotated[Path, typer.Option(help="Folder of the bundle; its bundle.json is written anew.")],
    data: Annotated[Path, typer.Option(help="Folder of aligned faces: with index.csv, or a folder per person.")],
    held_out_people: Annotated[int | None, typer.Option(min=1, help=HELD_OUT_PEOPLE)] = None,
    count: Annotated[int, typer.Option(min=1, help="Training faces to look at.")] = 240,
) -> None:
    """Measure what comes into a tiny bundle's convolutions, so that it can be served in int8."""
    from models.bundle import load_bundle, write_manifest
    from training.activation_ranges import measure_activation_ranges as measure
    from training.faces import load_faces

    faces = load_faces(data, "train", held_out_people)
    loaded = load_bundle(bundle)
    ranges = measure(loaded, faces, count)
    write_manifest(bundle, loaded.manifest.model_copy(update={"activation_ranges": ranges}))
    typer.echo(f"{bundle}: {len(ranges)} convolutions measured on {min(count, len(faces.targets))} faces")
