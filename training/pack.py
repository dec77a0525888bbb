"""Puts the components of finished runs together as a bundle."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.bundle import Manifest, face_tool_components, save_bundle, verify_bundle
from models.errors import HonestFaceError, WeightsError
from models.face_tools import FaceToolsConfig, build_face_tools
from models.honestface import HonestFace, HonestFaceConfig
from models.identity_network import IdentityNetworkConfig
from training.components import load_component, read_shape
from training.model_card import CARD, LICENCE, PROVENANCE, TRAINING_DATA

OWNERS = "Weights trained by their owner, who has stated no licence; what they began with has its own"


def pack(
    runs: Path,
    out: Path,
    version: str,
    matching_angle: float | None,
    metrics: Sequence[Path] = (),
    *,
    face_tools: Path | None = None,
    licence: str | None = None,
    generator: str = "honestface",
) -> Manifest:
    """Write the bundle of the run `generator`, with all components that its `generator.json` names.

    Its face tools are those of the `detector`, `landmarks` and `identity` runs, in half precision with all else; or
    those of the bundle `face_tools` with its matching angle, in single precision: a foreign network's statistics may
    be more than a half holds. This project's licence, data and model card are stated of the tiny profile alone, unless
    `licence` says otherwise. `metrics` are JSON files of `honestface evaluate`, told by their names: the degradations.

    Raises:
        WeightsError: a run has not exported its component yet, or one does not fit the others.
        BundleError: `face_tools` is no sound bundle, or the version is longer than a label or not printable.
    """
    folder = runs / generator
    shape = read_shape(folder)
    tools = verify_bundle(face_tools) if face_tools else None
    if matching_angle is None:
        if tools is None:
            raise HonestFaceError("a matching angle is needed (--matching-angle), or a bundle's face tools")
        matching_angle = tools.matching_angle
    config = tools.face_tools if tools else FaceToolsConfig()
    _check_width(shape.generator, config)
    figures = {path.stem: _figures(path) for path in metrics}
    weights = _generator(shape.generator, folder)
    face_weights = face_tool_components(face_tools, tools) if face_tools and tools else _of_runs(runs)
    ours = shape.profile == "tiny" and licence is None
    manifest: dict[str, Any] = {
        "name": f"honestface-{shape.profile}",
        "version": version,
        "profile": shape.profile,
        "generator": shape.generator,
        "face_tools": config,
        "matching_angle": matching_angle,
        "licence": LICENCE if ours else licence or OWNERS,
        "provenance": PROVENANCE if ours else f"Trained by its owner with `honestface train`, profile {shape.profile}.",
        "training_data": list(TRAINING_DATA) if ours else ["its owner's, who has not stated it here"],
        "card": CARD if ours else None,
        "metrics": figures,
    }
    if tools:
        manifest["licence"] += f"; face tools: {tools.licence}"
        manifest["provenance"] += f" Face tools of {tools.name} {tools.version}: {tools.provenance}"
        manifest["training_data"] += [f"face tools: {line}" for line in tools.training_data]
    return save_bundle(out, manifest, {**weights, **face_weights}, torch.float32 if tools else torch.float16)


def _generator(config: HonestFaceConfig, folder: Path) -> dict[str, dict[str, Tensor]]:
    """The weights of all components that such a generator has, checked."""
    with torch.device("meta"):
        network = HonestFace(config)
    parts = {name: part for name, part in network.named_children() if part.state_dict()}
    for name, part in parts.items():
        load_component(part, folder / f"{name}.safetensors")
    return {name: part.state_dict() for name, part in parts.items()}


def _of_runs(runs: Path) -> dict[str, dict[str, Tensor]]:
    """The three face tools' weights, checked."""
    found: dict[str, dict[str, Tensor]] = {}

    def load(name: str, network: nn.Module) -> None:
        load_component(network, runs / name / f"{name}.safetensors")
        found[name] = network.state_dict()

    build_face_tools(FaceToolsConfig(), 0.0, load)
    return found


def _check_width(generator: HonestFaceConfig, tools: FaceToolsConfig) -> None:
    encoder = generator.identity_embedder.encoder if generator.identity_embedder else None
    identity = tools.identity
    width = identity.embedding if isinstance(identity, IdentityNetworkConfig) else identity.width
    if encoder is not None and encoder.identity_width != width:
        raise WeightsError(
            f"the generator takes identities of width {encoder.identity_width}, the face tools give {width}: "
            "pack it with the face tools that it was trained with (--face-tools)"
        )


def _figures(path: Path) -> dict[str, Any]:
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HonestFaceError(f"{path} cannot be read: {error}") from None
    if not isinstance(figures, dict):
        raise HonestFaceError(f"{path}: figures are a mapping of names to values")
    return figures
