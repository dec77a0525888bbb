"""Bundles: a folder with `bundle.json` and one file per component, verified by sha256, never unpickled.

Components are safetensors files; a face tool that a user imported may be an ONNX file.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.errors import BundleError, WeightsError
from models.face_analyzer import FaceAnalyzer
from models.face_tools import FACE_TOOLS, FaceToolsConfig, build_face_tools
from models.honestface import HonestFace, HonestFaceConfig

FORMAT = 1
MANIFEST = "bundle.json"
SUFFIXES = (".safetensors", ".onnx")
TINY_BUNDLE = Path(__file__).parent / "bundles" / "tiny"

#: A short name that can be told in a line, a metric or a picture's metadata.
Label = Annotated[str, Field(pattern=r"^[ -~]{1,64}$")]


class ComponentFile(BaseModel):
    """One component's file in a bundle."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str
    bytes: int


class ModelCard(BaseModel):
    """What a bundle is for and what it cannot do, beside its data, licence and figures."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    intended_use: str
    unintended_use: str
    degradation: str
    recipe: str
    limits: tuple[str, ...]


class Manifest(BaseModel):
    """What `bundle.json` says. `format` is the version of this file's layout, `version` that of the weights.

    `matching_angle` (degrees) is the identity angle above which the bundle's encoder holds two faces for two people.
    `metrics` holds figures with the command that measured them, by the degradation's name where `pack` wrote it.
    `activation_ranges` is what int8 needs to know of these weights (`models.eight_bits`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1]
    name: str
    version: Label
    profile: Label
    generator: HonestFaceConfig
    face_tools: FaceToolsConfig
    matching_angle: float
    files: dict[str, ComponentFile]
    licence: str
    provenance: str
    training_data: list[str]
    card: ModelCard | None = None
    metrics: dict[str, Any]
    activation_ranges: dict[str, tuple[FiniteFloat, FiniteFloat]] | None = None


@dataclass(frozen=True, eq=False)
class Bundle:
    """A loaded bundle: the generator in evaluation mode on its device, the face tools on the CPU."""

    manifest: Manifest
    folder: Path
    generator: HonestFace
    analyzer: FaceAnalyzer


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a bundle.

    Raises:
        BundleError: there is none, it is not JSON, of another format version, or a field is missing or wrong.
    """
    path = folder / MANIFEST
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"{folder} is no bundle: it has no {MANIFEST}") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        found = values.get("format") if isinstance(values, dict) else None
        raise BundleError(f"{path}: format {found!r} is not supported, this version reads format {FORMAT}")
    return _checked(values, path)


def verify_bundle(folder: Path) -> Manifest:
    """Check that every file of a bundle is there, whole and unchanged.

    Raises:
        BundleError: naming the first file that is missing, truncated or altered.
    """
    manifest = read_manifest(folder)
    for name, expected in manifest.files.items():
        path = folder / name
        if Path(name).name != name or path.suffix not in SUFFIXES:
            raise BundleError(f"{folder}: {name!r} is not the name of a {' or '.join(SUFFIXES)} file inside the bundle")
        if not path.is_file():
            raise BundleError(f"{path} is missing")
        if (size := path.stat().st_size) != expected.bytes:
            raise BundleError(f"{path} has {size} bytes, not {expected.bytes}: it is truncated or of another version")
        if sha256(path) != expected.sha256:
            raise BundleError(f"{path} was altered: its sha256 is not the one in {MANIFEST}")
    return manifest


def load_bundle(folder: Path | None = None, device: torch.device | str = "cpu") -> Bundle:
    """Verify and load a bundle, in float32; without a folder the tiny one that ships with the package.

    Raises:
        BundleError: the bundle is missing, damaged, or its weights do not fit its architecture.
        HonestFaceError: an imported face tool needs a library that is not installed.
    """
    folder = folder or TINY_BUNDLE
    manifest = verify_bundle(folder)
    load = partial(_load_component, folder, manifest)
    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
        generator = HonestFace(manifest.generator)
    for name, component in generator.named_children():
        if component.state_dict():
            load(name, component)
    locate = partial(_onnx_component, folder, manifest)
    try:
        analyzer = build_face_tools(manifest.face_tools, manifest.matching_angle, load, locate)
    except WeightsError as error:
        raise BundleError(str(error)) from None
    generator = generator.to(device).eval().requires_grad_(False)
    return Bundle(manifest, folder, generator, analyzer)


def save_bundle(
    folder: Path,
    manifest: dict[str, Any],
    components: Mapping[str, Mapping[str, Tensor] | Path],
    dtype: torch.dtype = torch.float16,
) -> Manifest:
    """Write a bundle: weights as `name.safetensors` in `dtype`, a copy of an ONNX file as `name.onnx`, `bundle.json`.

    `components` has a network's weights, or the path of its ONNX file, by the component's name. `manifest` holds the
    fields of `Manifest` except `format` and `files`.

    Raises:
        BundleError: a field is missing or wrong; nothing was written.
    """
    incomplete = _checked({**manifest, "format": FORMAT, "files": {}}, folder / MANIFEST)
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, component in components.items():
        if isinstance(component, Path):
            path = folder / f"{name}.onnx"
            path.write_bytes(component.read_bytes())
        else:
            path = folder / f"{name}.safetensors"
            save_file({k: _stored(v, dtype) for k, v in component.items()}, path)
        files[path.name] = ComponentFile(sha256=sha256(path), bytes=path.stat().st_size)
    complete = incomplete.model_copy(update={"files": files})
    write_manifest(folder, complete)
    return complete


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `bundle.json`."""
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def face_tool_components(folder: Path, manifest: Manifest) -> dict[str, dict[str, Tensor] | Path]:
    """The face tools of a verified bundle as `save_bundle` takes them.

    Raises:
        BundleError: the manifest does not list one that its architecture needs, or it cannot be read.
    """
    files = {tool: _listed(folder, manifest, manifest.face_tools.file_of(tool)) for tool in FACE_TOOLS}
    return {tool: path if path.suffix == ".onnx" else _read(path) for tool, path in files.items()}


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _checked(values: dict[str, Any], path: Path) -> Manifest:
    try:
        return Manifest.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise BundleError(f"{path}: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None


def _listed(folder: Path, manifest: Manifest, name: str) -> Path:
    """The path of a file, which must be one of those that `verify_bundle` looked at."""
    if name not in manifest.files:
        raise BundleError(f"{folder}: {MANIFEST} lists no {name}, which its architecture needs")
    return folder / name


def _onnx_component(folder: Path, manifest: Manifest, name: str) -> Path:
    return _listed(folder, manifest, f"{name}.onnx")


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from None


def _load_component(folder: Path, manifest: Manifest, name: str, module: nn.Module) -> None:
    path = _listed(folder, manifest, f"{name}.safetensors")
    # copies: the loaded tensors are the mapped file itself, which somebody may replace while we run
    state = {k: v.to(torch.float32, copy=True) if v.is_floating_point() else v.clone() for k, v in _read(path).items()}
    try:
        load_exactly(module, state, str(path))
    except WeightsError as error:
        raise BundleError(str(error)) from None


def load_exactly(module: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Give a module its weights, taking over the tensors themselves.

    Raises:
        WeightsError: a key is missing, left over or of another shape; the first one is named.
    """
    expected = module.state_dict()
    for key in expected:
        if key not in state:
            raise WeightsError(f"{source}: {key} is missing")
        if state[key].shape != expected[key].shape:
            raise WeightsError(f"{source}: {key} is {tuple(state[key].shape)}, not {tuple(expected[key].shape)}")
    if extra := sorted(set(state) - set(expected)):
        raise WeightsError(f"{source}: {extra[0]} fits nothing in the network")
    module.load_state_dict(state, assign=True)


def _stored(value: Tensor, dtype: torch.dtype) -> Tensor:
    return (value.to(dtype) if value.is_floating_point() else value).contiguous().cpu().clone()
