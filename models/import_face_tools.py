"""Puts the field's face networks into a bundle in place of its own: SCRFD, ArcFace, face-alignment's FAN."""

import dataclasses
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from models.bundle import MANIFEST, SUFFIXES, ComponentFile, Manifest, load_exactly, sha256, verify_bundle
from models.errors import WeightsError
from models.fan import fan, fan_config_for
from models.foreign_weights import read_weights
from models.insightface_tools import ArcFaceOnnxConfig, InsightFaceDetector, InsightFaceIdentityEncoder, ScrfdConfig
from models.iresnet import IResNet, IResNetConfig, iresnet_config_for


def import_scrfd(weights: Path, bundle: Path, threshold: float = 0.5) -> None:
    """Make a detector of insightface's packs (an ONNX file) the detector of a bundle.

    Faces that score `threshold` (0..1) or more are kept.

    Raises:
        WeightsError: the file is no such detector.
        BundleError: `bundle` is no sound bundle.
        HonestFaceError: insightface is not installed.
    """
    manifest = verify_bundle(bundle)
    InsightFaceDetector(weights)
    tools = dataclasses.replace(manifest.face_tools, detector=ScrfdConfig(threshold))
    _replace(bundle, manifest.model_copy(update={"face_tools": tools}), "detector", weights, weights)


def import_arcface(weights: Path, bundle: Path, matching_angle: float = 73.7) -> None:
    """Make an iResNet of insightface's arcface_torch, or an ONNX file of its packs, the identity network of a bundle.

    `matching_angle` (degrees): the default is a cosine of 0.28, a usual bound for ArcFace; calibrate it for others.

    Raises:
        WeightsError: the file does not fit, or the bundle's generator was trained on embeddings of another width.
        BundleError: `bundle` is no sound bundle.
        HonestFaceError: insightface is not installed, which an ONNX file needs.
    """
    manifest = verify_bundle(bundle)
    config: IResNetConfig | ArcFaceOnnxConfig
    network: nn.Module | Path
    if weights.suffix == ".onnx":
        config, network = ArcFaceOnnxConfig(InsightFaceIdentityEncoder(weights).width), weights
    else:
        state = _plain(read_weights(weights))
        config = iresnet_config_for(state, str(weights))
        network = _filled(IResNet(config), state, weights)
    embedder = manifest.generator.identity_embedder
    encoder = embedder.encoder if embedder else None
    if encoder is not None and encoder.identity_width != config.width:
        raise WeightsError(
            f"{weights} makes embeddings of width {config.width}; the bundle's generator was trained on another "
            f"identity network, of width {encoder.identity_width}"
        )
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
    tools = dataclasses.replace(manifest.face_tools, landmarks=config)
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


def _replace(folder: Path, manifest: Manifest, tool: str, network: nn.Module | Path, source: Path) -> None:
    """Write one component, a network or a copy of an ONNX file, and the manifest anew, each beside the old file first.

    A component of the other kind is deleted last, when the manifest names it no more: a crash in between leaves a sound
    bundle. Where the name stays, one between the two renames leaves a bundle that `verify_bundle` refuses.
    """
    name = manifest.face_tools.file_of(tool)
    fresh, fresh_manifest = folder / f"{name}.new", folder / f"{MANIFEST}.new"
    if isinstance(network, Path):
        shutil.copyfile(network, fresh)
    else:
        save_file({key: value.contiguous() for key, value in network.state_dict().items()}, fresh)
    entry = ComponentFile(sha256=sha256(fresh), bytes=fresh.stat().st_size)
    note = f"{tool} network: {source.name} (sha256 {sha256(source)})"
    old = {f"{tool}{suffix}" for suffix in SUFFIXES} - {name}
    kept = {key: file for key, file in manifest.files.items() if key not in old}
    changed = manifest.model_copy(
        update={
            "files": {**kept, name: entry},
            "provenance": f"{manifest.provenance}; {note}",
            "licence": f"{manifest.licence}; {tool} network: as the publisher of {source.name} states",
        }
    )
    fresh_manifest.write_text(changed.model_dump_json(indent=2) + "\n", encoding="utf-8")
    os.replace(fresh, folder / name)
    os.replace(fresh_manifest, folder / MANIFEST)
    for other in old:
        (folder / other).unlink(missing_ok=True)
