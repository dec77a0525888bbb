import json
import pickle
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.bundle import (
    Bundle,
    face_tool_components,
    load_bundle,
    load_exactly,
    read_manifest,
    save_bundle,
    sha256,
    verify_bundle,
)
from models.errors import BundleError, HonestFaceError, WeightsError
from models.face_tools import build_face_tools
from models.insightface_tools import ArcFaceOnnxConfig, ScrfdConfig
from models.references import References
from tests.models.small_onnx import save_arcface, save_scrfd
from tests.models.test_face_tools import SMALL as SMALL_TOOLS
from tests.small_generator import SMALL, SMALL_SD21, faces, identities, landmarks, references, small_generator

DESCRIPTION: dict[str, Any] = {
    "name": "small",
    "version": "0.0.1",
    "profile": "tiny",
    "generator": SMALL,
    "face_tools": SMALL_TOOLS,
    "matching_angle": 61.5,
    "licence": "none",
    "provenance": "random numbers",
    "training_data": ["none"],
    "metrics": {"psnr": 1.5},
}


def components() -> dict[str, dict[str, Tensor]]:
    """Weights of all parts of a small bundle, by name."""
    torch.manual_seed(1)
    networks: dict[str, nn.Module] = {}
    build_face_tools(SMALL_TOOLS, 61.5, networks.__setitem__)
    networks |= dict(small_generator().named_children())
    return {name: network.state_dict() for name, network in networks.items() if network.state_dict()}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    save_bundle(folder, DESCRIPTION, components(), torch.float32)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return shutil.copytree(saved, tmp_path / "bundle")


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change bundle.json, as somebody with an editor could."""
    path = folder / "bundle.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def forge(folder: Path, name: str) -> None:
    """Let bundle.json vouch for whatever the file is now."""
    path = folder / name
    entry = {"sha256": sha256(path), "bytes": path.stat().st_size}
    edit(folder, lambda values: values["files"].update({name: entry}))


def restore(bundle: Bundle) -> Tensor:
    packed = References.pack([references(1), []])
    with torch.inference_mode():
        restored: Tensor = bundle.generator(faces(2), packed, landmarks(2), identities(2)).restored
    return restored


def test_what_was_saved_is_loaded(saved: Path) -> None:
    bundle = load_bundle(saved)
    expected = small_generator()
    packed = References.pack([references(1), []])
    with torch.inference_mode():
        restored = expected(faces(2), packed, landmarks(2), identities(2)).restored
    assert torch.allclose(restore(bundle), restored, atol=1e-5)
    loaded = bundle.generator.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in expected.state_dict().items())
    assert bundle.folder == saved
    assert bundle.manifest == verify_bundle(saved)
    assert bundle.manifest.version == "0.0.1" and bundle.manifest.metrics == {"psnr": 1.5}
    assert bundle.analyzer.matching_angle == 61.5
    assert not bundle.generator.training and not any(p.requires_grad for p in bundle.generator.parameters())
    written = components()
    for name, tool in (("identity", bundle.analyzer.identity_encoder), ("detector", bundle.analyzer.detector)):
        state = tool.network.state_dict()
        assert state.keys() == written[name].keys()
        assert all(torch.equal(value, written[name][key]) for key, value in state.items())


def test_a_loaded_bundle_does_not_depend_on_its_files(folder: Path) -> None:
    bundle = load_bundle(folder)
    before = bundle.generator.unet.conv_out.weight.clone()
    for path in folder.glob("*.safetensors"):
        path.write_bytes(b"\xff" * path.stat().st_size)
    assert torch.equal(bundle.generator.unet.conv_out.weight, before)


def test_half_precision_on_disk_and_single_in_memory(tmp_path: Path) -> None:
    save_bundle(tmp_path, DESCRIPTION, components())
    stored = load_file(tmp_path / "unet.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float16}
    tracked = load_file(tmp_path / "detector.safetensors")["stem.0.1.num_batches_tracked"]
    assert tracked.dtype == torch.int64
    loaded = load_bundle(tmp_path).generator.state_dict()
    for key, value in small_generator().state_dict().items():
        assert torch.equal(loaded[key], value.half().float()), key


def test_a_generator_without_references_or_with_a_kl_autoencoder(tmp_path: Path) -> None:
    config = replace(SMALL_SD21, identity_embedder=None)
    tools = {name: state for name, state in components().items() if name in ("detector", "landmarks", "identity")}
    network = small_generator(config)
    weights = {name: child.state_dict() for name, child in network.named_children() if child.state_dict()}
    assert set(weights) == {"vae", "unet", "vre"}
    save_bundle(tmp_path, DESCRIPTION | {"generator": config}, tools | weights, torch.float32)
    bundle = load_bundle(tmp_path)
    with torch.inference_mode():
        assert torch.allclose(bundle.generator(faces(1)).restored, network(faces(1)).restored, atol=1e-5)


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(BundleError, match=r"is no bundle: it has no bundle\.json"):
            load_bundle(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{}", b'{"format": 1'])
def test_a_manifest_that_is_not_json(folder: Path, content: bytes) -> None:
    (folder / "bundle.json").write_bytes(content)
    with pytest.raises(BundleError, match="cannot be read"):
        load_bundle(folder)


@pytest.mark.parametrize("content", ["[]", "1", "{}", '{"format": 2}', '{"format": "1"}', '{"format": null}'])
def test_another_format(folder: Path, content: str) -> None:
    (folder / "bundle.json").write_text(content)
    with pytest.raises(BundleError, match="is not supported, this version reads format 1"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda values: values.update(surprise=1), "surprise"),
        (lambda values: values.pop("licence"), "licence"),
        (lambda values: values["generator"].update(surprise=1), "generator.surprise"),
        (lambda values: values["generator"]["vre"].pop("channels"), "generator.vre.channels"),
        (
            lambda values: values["face_tools"]["detector"].update(surprise=1),
            "face_tools.detector.FaceDetectorConfig.surprise",
        ),
        (lambda values: values["files"]["unet.safetensors"].pop("sha256"), "unet.safetensors.sha256"),
        (lambda values: values.update(matching_angle="steep"), "matching_angle"),
    ],
)
def test_an_unknown_missing_or_wrong_field_is_named(
    folder: Path, change: Callable[[dict[str, Any]], object], named: str
) -> None:
    edit(folder, change)
    with pytest.raises(BundleError, match=named) as caught:
        load_bundle(folder)
    assert "\n" not in str(caught.value)


def test_a_missing_file(folder: Path) -> None:
    (folder / "vre.safetensors").unlink()
    with pytest.raises(BundleError, match=r"vre\.safetensors is missing"):
        load_bundle(folder)


def test_a_truncated_file(folder: Path) -> None:
    path = folder / "vae.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"vae\.safetensors has .* truncated"):
        load_bundle(folder)


def test_a_single_altered_byte(folder: Path) -> None:
    path = folder / "identity.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"identity\.safetensors was altered"):
        load_bundle(folder)


@pytest.mark.parametrize(
    "name",
    [
        "../outside.safetensors",
        "/tmp/outside.safetensors",
        "sub/inside.safetensors",
        "../x.onnx",
        "sub/x.onnx",
        "unet.pt",
        "x.onnx.pt",
        ".onnx",
        "..",
        "",
    ],
)
def test_names_that_lead_out_of_the_folder(folder: Path, name: str) -> None:
    (folder.parent / "outside.safetensors").write_bytes(b"x")
    edit(folder, lambda values: values["files"].update({name: {"sha256": "0", "bytes": 1}}))
    with pytest.raises(BundleError, match=r"not the name of a \.safetensors or \.onnx file inside"):
        load_bundle(folder)


def test_a_component_that_is_not_listed(folder: Path) -> None:
    edit(folder, lambda values: values["files"].pop("reference_adapter.safetensors"))
    with pytest.raises(BundleError, match=r"lists no reference_adapter\.safetensors"):
        load_bundle(folder)


@pytest.fixture
def with_onnx(tmp_path: Path) -> Path:
    """A bundle whose detector and identity network are ONNX files."""
    save_scrfd(tmp_path / "det.onnx")
    save_arcface(tmp_path / "rec.onnx")
    tools = replace(SMALL_TOOLS, detector=ScrfdConfig(0.6), identity=ArcFaceOnnxConfig(8))
    parts = components() | {"detector": tmp_path / "det.onnx", "identity": tmp_path / "rec.onnx"}
    save_bundle(tmp_path / "onnx", DESCRIPTION | {"face_tools": tools}, parts, torch.float32)
    return tmp_path / "onnx"


def test_onnx_files_as_face_tools(with_onnx: Path) -> None:
    manifest = verify_bundle(with_onnx)
    assert (with_onnx / "detector.onnx").read_bytes() == (with_onnx.parent / "det.onnx").read_bytes()
    assert sorted(manifest.files) == sorted(path.name for path in with_onnx.iterdir() if path.name != "bundle.json")
    assert isinstance(manifest.face_tools.detector, ScrfdConfig)
    bundle = load_bundle(with_onnx)
    (with_onnx / "detector.onnx").unlink()
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:32, :32, 0] = 210
    assert len(bundle.analyzer.detector.detect(picture)) == 1
    picture[:32, :32, 0] = 200  # scores 0.57
    assert bundle.analyzer.detector.detect(picture) == []
    assert bundle.analyzer.identity_encoder.embed(torch.zeros(2, 3, 512, 512)).shape == (2, 8)
    assert restore(bundle).isfinite().all()


def test_a_damaged_onnx_file(with_onnx: Path) -> None:
    path = with_onnx / "identity.onnx"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match=r"identity\.onnx was altered"):
        load_bundle(with_onnx)
    for damaged in (content[: len(content) // 2], b"", (with_onnx / "detector.onnx").read_bytes()):
        path.write_bytes(damaged)
        forge(with_onnx, "identity.onnx")
        with pytest.raises(BundleError, match=r"identity\.onnx: (not an ONNX network|made for)") as caught:
            load_bundle(with_onnx)
        assert "\n" not in str(caught.value)


def test_an_onnx_file_that_is_not_listed_or_of_another_width(with_onnx: Path) -> None:
    edit(with_onnx, lambda values: values["face_tools"]["identity"].update(width=9))
    with pytest.raises(BundleError, match="makes embeddings of width 8, not 9"):
        load_bundle(with_onnx)
    edit(with_onnx, lambda values: values["files"].pop("detector.onnx"))
    with pytest.raises(BundleError, match=r"lists no detector\.onnx"):
        load_bundle(with_onnx)
    with pytest.raises(BundleError, match=r"lists no detector\.onnx"):
        face_tool_components(with_onnx, read_manifest(with_onnx))


def test_without_insightface_an_onnx_tool_is_one_line(with_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "insightface.model_zoo", None)
    with pytest.raises(HonestFaceError, match=r"pip install honestface\[facetools\]") as caught:
        load_bundle(with_onnx)
    assert "\n" not in str(caught.value)


class Trap:
    """Sets a flag when it is unpickled."""

    sprung = False

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return spring, ()


def spring() -> None:
    Trap.sprung = True


@pytest.mark.parametrize("write", [pickle.dump, torch.save], ids=["pickle", "torch"])
def test_a_pickle_under_a_safetensors_name_is_never_opened(folder: Path, write: Callable[..., None]) -> None:
    with (folder / "unet.safetensors").open("wb") as stream:
        write(Trap(), stream)
    forge(folder, "unet.safetensors")
    with pytest.raises(BundleError, match=r"unet\.safetensors cannot be read"):
        load_bundle(folder)
    assert not Trap.sprung


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.update(stranger=torch.zeros(1)), "stranger fits nothing"),
        (lambda state: state.pop("conv_out.weight"), "conv_out.weight is missing"),
        (lambda state: state.update({"conv_out.bias": torch.zeros(3)}), r"conv_out.bias is \(3,\), not \(16,\)"),
    ],
)
def test_weights_that_do_not_fit(folder: Path, change: Callable[[dict[str, Tensor]], object], said: str) -> None:
    state = {key: value.clone() for key, value in load_file(folder / "unet.safetensors").items()}
    change(state)
    save_file(state, folder / "unet.safetensors")
    forge(folder, "unet.safetensors")
    with pytest.raises(BundleError, match=said):
        load_bundle(folder)


def test_a_misfit_leaves_the_network_as_it_was() -> None:
    network = nn.Linear(2, 2)
    before = network.weight.clone()
    with pytest.raises(WeightsError, match=r"w\.safetensors: bias is missing"):
        load_exactly(network, {"weight": torch.zeros(2, 2)}, "w.safetensors")
    assert torch.equal(network.weight, before)


def test_a_manifest_can_be_read_without_the_weights(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        path.unlink()
    assert read_manifest(folder).name == "small"
