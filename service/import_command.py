"""`honestface bundle import-osdface|import-scrfd|import-arcface|import-fan`: others' weights, made into a bundle."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Weights = Annotated[Path, typer.Option(help="The published weight file (.pth, .pt, .tar, .ckpt or .safetensors).")]
Target = Annotated[Path, typer.Option(help="The bundle to change.")]


def import_osdface(
    base: Annotated[
        str, typer.Option(help="Folder of Stable Diffusion 2.1-base in diffusers' layout, or a hub id to download.")
    ],
    lora: Annotated[Path, typer.Option(help="OSDFace's pytorch_lora_weights.safetensors.")],
    vre: Annotated[Path, typer.Option(help="OSDFace's associate_2.ckpt.")],
    projection: Annotated[Path, typer.Option(help="OSDFace's embedding_change_weights.pth.")],
    out: Annotated[Path, typer.Option(help="Folder for the new bundle.")],
    face_tools: Annotated[
        Path | None, typer.Option(help="Bundle whose face networks to take.", show_default="the embedded tiny bundle")
    ] = None,
    precision: Annotated[
        Literal["float32", "float16"], typer.Option(help="How the weights are stored; float16 halves the folder.")
    ] = "float32",
    lora_alpha: Annotated[float, typer.Option(min=0, help="Strength of the LoRA; the rank is read off the file.")] = 16,
    allow_download: Annotated[
        bool, typer.Option("--allow-download", help="Let --base be fetched from the hub.")
    ] = False,
) -> None:
    """Turn the released OSDFace weights and a Stable Diffusion 2.1-base folder into a bundle (blind: no references)."""
    import torch

    from models.base_model import locate_base_model
    from models.bundle import TINY_BUNDLE
    from models.import_osdface import import_osdface

    folder = locate_base_model(base, allow_download)
    dtype = torch.float16 if precision == "float16" else torch.float32
    tools = face_tools or TINY_BUNDLE
    import_osdface(folder, lora, vre, projection, out, face_tools=tools, alpha=lora_alpha, dtype=dtype)
    print(f"wrote {out}")


def import_scrfd(
    weights: Annotated[Path, typer.Option(help="The published detector (det_10g.onnx, say).")],
    bundle: Target,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Score from which on a face is one.")] = 0.5,
) -> None:
    """Make an SCRFD (of insightface's packs) the face detector of a bundle."""
    from models.import_face_tools import import_scrfd

    import_scrfd(weights, bundle, threshold)
    print(f"{bundle}: detector is now {weights.name}")


def import_arcface(
    weights: Annotated[
        Path, typer.Option(help="arcface_torch's weights (.pt, .pth), or an .onnx file of insightface's packs.")
    ],
    bundle: Target,
    matching_angle: Annotated[
        float, typer.Option(min=0, max=180, help="Identity angle in degrees above which two faces are two people.")
    ] = 73.7,
) -> None:
    """Make an ArcFace (of insightface's arcface_torch or its packs) the identity network of a bundle."""
    from models.import_face_tools import import_arcface

    import_arcface(weights, bundle, matching_angle)
    print(f"{bundle}: identity network is now {weights.name}")


def import_fan(weights: Weights, bundle: Target) -> None:
    """Make a FAN (face-alignment's 2DFAN-4) the landmark network of a bundle."""
    from models.import_face_tools import import_fan

    import_fan(weights, bundle)
    print(f"{bundle}: landmark network is now {weights.name}")
