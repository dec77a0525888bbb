"""Puts the field's face networks into a bundle in place of its own: ArcFace's iResNet, face-alignment's FAN."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from models.bundle import MANIFEST, ComponentFile, Manifest, load_exactly, sha256, verify_bundle
from models.embedded_face_tools import FaceToolsConfig
from models.errors import WeightsError
from models.face_alignment_tools import fan, fan_config_for
from models.foreign_weights import read_weights
from models.iresnet import IResNet, iresnet_config_for


def import_arcface(weights: Path, bundle: Path, matching_angle: float = 73.7) -> None:
    """Make an iResNet of insightface's arcface_torch the identity network of a bundle.

    `matching_angle` (degrees): the default is a cosine of 0.28, a usual bound for ArcFace; calibrate it for others.

    Raises:
        WeightsError: the file does not fit, or the bundle's generator was trained on embeddings of another width.
        BundleError: `bundle` is no sound bundle.
    """
    manifest = verify_bundle(bundle)
    state = _plain(read_weights(weights))
    config = iresnet_config_for(state, str(weights))
    embedder = manifest.generator.identity_embedder
    encoder = embedder.encoder if embedder else None
    if encoder is not None and encoder.identity_width != config.width:
        raise WeightsError(
            f"{weights} makes embeddings of width {config.width}; the bundle's generator was trained on another "
            f"identity network, of width {encoder.identity_width}"
        )
    network = _filled(IResNet(config), state, weights)
    tools = dataclasses.replace(manifest.face_tools, identity=config)
    changed = manifest.model_copy(update={"face_tools": tools, "matching_angle": matching_angle})
    _replace(bundle, changed, "identity", network, weights)


def import_fan(weights: Path, bundle: Path) -> None:
    """Make a FAN of face-alignment the landmark network of a bundle.

    Raises:
        WeightsError: the file does not fit.
        BundleError: `bundle` is no sound bundle.
        HonestFaceError: face-alignment is not installed.
    """
    manifest = verify_bundle(bundle)
    state = _plain(read_weights(weights))
    config = fan_config_for(state, str(weights))
    network = _filled(fan(config), state, weights)
    tools: FaceToolsConfig = dataclasses.replace(manifest.face_tools, landmarks=config)
    _replace(bundle, manifest.model_copy(update={"face_tools": tools}), "landmarks", network, weights)


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefix that data-parallel training leaves, in float32."""
    return {
        key.removeprefix("module."): value.float() if value.is_floating_point() else value
        for key, value in state.items()
    }


def _filled(network: nn.Module, state: dict[str, Tensor], source: Path) -> nn.Module:
    # Files from before torch 0.4.1 lack these counters, which only training reads.
    counters = {k: v for k, v in network.state_dict().items() if k.endswith(".num_batches_tracked")}
    load_exactly(network, counters | state, str(source))
    return network


def _replace(folder: Path, manifest: Manifest, name: str, network: nn.Module, source: Path) -> None:
    """Write one component and the manifest anew, each beside the old file first and then in its place."""
    path = folder / f"{name}.safetensors"
    fresh, fresh_manifest = path.with_suffix(".new"), folder / f"{MANIFEST}.new"
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, fresh)
    entry = ComponentFile(sha256=sha256(fresh), bytes=fresh.stat().st_size)
    note = f"{name} network: {source.name} (sha256 {sha256(source)})"
    changed = manifest.model_copy(
        update={
            "files": {**manifest.files, path.name: entry},
            "provenance": f"{manifest.provenance}; {note}",
            "licence": f"{manifest.licence}; {name} network: as the publisher of {source.name} states",
        }
    )
    fresh_manifest.write_text(changed.model_dump_json(indent=2) + "\n", encoding="utf-8")
    os.replace(fresh, path)
    os.replace(fresh_manifest, folder / MANIFEST)
