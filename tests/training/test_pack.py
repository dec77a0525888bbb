import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from models.bundle import load_bundle, save_bundle, verify_bundle
from models.errors import BundleError, HonestFaceError, WeightsError
from models.face_detector import FaceDetectorConfig, FaceDetectorNetwork
from models.face_tools import FACE_TOOLS, build_face_tools
from models.honestface import HonestFace, HonestFaceConfig
from models.identity_network import IdentityNetwork, IdentityNetworkConfig
from models.import_face_tools import import_arcface, import_scrfd
from models.landmark_network import LandmarkNetwork, LandmarkNetworkConfig
from models.profiles import TINY
from models.references import References
from tests.models.small_onnx import save_arcface, save_scrfd
from tests.models.test_face_tools import SMALL as SMALL_TOOLS
from tests.small_generator import SMALL, SMALL_SD21, faces, identities, landmarks, references, small_generator
from training.cli import app
from training.components import save_component, save_components, save_generator
from training.model_card import CARD, LICENCE, PROVENANCE, TRAINING_DATA
from training.pack import OWNERS, pack

EMBEDDER = SMALL.identity_embedder
assert EMBEDDER is not None
SHAPES = {
    "sd21": SMALL_SD21,
    "ffe: false": replace(SMALL, identity_embedder=replace(EMBEDDER, extractor=None)),
    "fie: false": replace(SMALL_SD21, identity_embedder=replace(EMBEDDER, encoder=None)),
    "blind": replace(SMALL, identity_embedder=None, reference_adapter=None),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all stages export, with random weights; the generator as up to 0.11.0, without its shapes."""
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    tools = {
        "detector": FaceDetectorNetwork(FaceDetectorConfig()),
        "landmarks": LandmarkNetwork(LandmarkNetworkConfig()),
        "identity": IdentityNetwork(IdentityNetworkConfig()),
    }
    for name in ("honestface", *tools):
        (folder / name).mkdir()
    save_components(HonestFace(TINY), folder / "honestface")
    for name, network in tools.items():
        save_component(network, folder / name / f"{name}.safetensors")
    return folder


def test_finished_runs_become_a_bundle_that_loads(runs: Path, tmp_path: Path) -> None:
    metrics = tmp_path / "vqfr-v2.json"
    metrics.write_text('{"psnr": 24.5}')
    out = tmp_path / "bundle"
    manifest = pack(runs, out, "1.2.3", 62.0, [metrics])
    assert verify_bundle(out).model_dump_json() == manifest.model_dump_json()
    assert (manifest.version, manifest.profile, manifest.matching_angle) == ("1.2.3", "tiny", 62.0)
    assert manifest.metrics == {"vqfr-v2": {"psnr": 24.5}}
    assert (manifest.name, manifest.licence, manifest.provenance) == ("honestface-tiny", LICENCE, PROVENANCE)
    assert (manifest.training_data, manifest.card) == (list(TRAINING_DATA), CARD)
    assert sum(path.stat().st_size for path in out.iterdir()) < 30e6  # what may lie in the repository
    bundle = load_bundle(out)
    assert bundle.analyzer.matching_angle == 62.0
    with torch.inference_mode():
        assert bundle.generator(torch.zeros(1, 3, 512, 512)).restored.isfinite().all()


def test_a_run_that_is_not_finished_is_named(runs: Path, tmp_path: Path) -> None:
    (runs / "identity" / "identity.safetensors").rename(tmp_path / "kept")
    with pytest.raises(WeightsError, match=r"identity\.safetensors is missing: train the stage that makes it"):
        pack(runs, tmp_path / "bundle", "1", 60.0)
    (tmp_path / "kept").rename(runs / "identity" / "identity.safetensors")
    assert not (tmp_path / "bundle").exists()


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose face tools are taken; its identities are 8 numbers, and one is more than a half holds."""
    folder = tmp_path_factory.mktemp("tools")
    torch.manual_seed(2)
    networks: dict[str, nn.Module] = {}
    build_face_tools(SMALL_TOOLS, 61.5, networks.__setitem__)
    next(value for name, value in networks["identity"].named_buffers() if name.endswith("running_var")).fill_(1e5)
    manifest = {
        "name": "tools", "version": "3", "profile": "sd21", "generator": SMALL, "face_tools": SMALL_TOOLS,
        "matching_angle": 61.5, "licence": "theirs", "provenance": "bought", "training_data": ["secret"], "metrics": {},
    }  # fmt: skip
    save_bundle(folder, manifest, {name: dict(part.state_dict()) for name, part in networks.items()}, torch.float32)
    return folder


def restored(generator: HonestFace) -> Tensor:
    given = (References.pack([references(1)]), landmarks(1), identities(1)) if generator.takes_references else ()
    with torch.inference_mode():
        return generator(faces(1), *given).restored


@pytest.mark.parametrize("name", SHAPES)
def test_a_run_of_any_shape_becomes_a_bundle_that_loads(name: str, tools: Path, tmp_path: Path) -> None:
    shape, out = SHAPES[name], tmp_path / "bundle"
    trained = small_generator(shape)
    (tmp_path / "run").mkdir()
    save_generator(trained, "sd21", tmp_path / "run")
    manifest = pack(tmp_path, out, "1", None, face_tools=tools, generator="run")
    bundle = load_bundle(out)
    assert torch.equal(restored(bundle.generator), restored(trained))
    assert bundle.analyzer.matching_angle == 61.5 and bundle.analyzer.identity_encoder.width == 8
    assert {f"{part}.safetensors" for part in FACE_TOOLS} < set(manifest.files)
    assert manifest.files["identity.safetensors"] == verify_bundle(tools).files["identity.safetensors"]
    assert (manifest.name, manifest.profile) == ("honestface-sd21", "sd21")
    assert manifest.licence == f"{OWNERS}; face tools: theirs"
    assert manifest.provenance.endswith("Face tools of tools 3: bought")
    assert manifest.training_data == ["its owner's, who has not stated it here", "face tools: secret"]
    assert manifest.card is None


def test_onnx_files_among_the_face_tools_are_copied(tools: Path, tmp_path: Path) -> None:
    save_scrfd(tmp_path / "det.onnx")
    save_arcface(tmp_path / "rec.onnx")
    theirs = shutil.copytree(tools, tmp_path / "theirs")
    import_scrfd(tmp_path / "det.onnx", theirs)
    import_arcface(tmp_path / "rec.onnx", theirs, 65.0)
    small_run(tmp_path)
    manifest = pack(tmp_path, tmp_path / "bundle", "1", None, face_tools=theirs)
    expected = verify_bundle(theirs)
    for name in ("detector.onnx", "identity.onnx", "landmarks.safetensors"):
        assert manifest.files[name] == expected.files[name]
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.manifest.face_tools == expected.face_tools and bundle.analyzer.matching_angle == 65.0
    wide = replace(SMALL, identity_embedder=TINY.identity_embedder)
    save_generator(small_generator(wide), "tiny", tmp_path / "honestface")
    with pytest.raises(WeightsError, match="takes identities of width 128, the face tools give 8"):
        pack(tmp_path, tmp_path / "other", "1", None, face_tools=theirs)


def test_a_licence_and_an_angle_of_ones_own(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    command = ["pack", "--runs", str(runs), "--out", str(out), "--version", "1", "--matching-angle", "55"]
    result = CliRunner().invoke(app, [*command, "--licence", "mine"], catch_exceptions=False)
    assert result.exit_code == 0 and "honestface-tiny 1, 9 files" in result.output
    manifest = verify_bundle(out)
    assert (manifest.licence, manifest.matching_angle) == ("mine", 55.0)
    assert "HonestFace project" not in manifest.model_dump_json()


def small_run(folder: Path, shape: HonestFaceConfig = SMALL) -> Path:
    (folder / "honestface").mkdir()
    save_generator(small_generator(shape), "tiny", folder / "honestface")
    return folder / "honestface"


def test_face_tools_of_another_width_than_the_generator_learned_from(tools: Path, tmp_path: Path) -> None:
    small_run(tmp_path, replace(SMALL, identity_embedder=TINY.identity_embedder))
    with pytest.raises(WeightsError, match="takes identities of width 128, the face tools give 8"):
        pack(tmp_path, tmp_path / "bundle", "1", None, face_tools=tools)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("generator.json", b"{", r"generator\.json: Invalid JSON"),
        ("generator.json", b'{"profile": "tiny"}', r"generator\.json: generator: Field required"),
        ("unet.safetensors", b"", r"unet\.safetensors cannot be read"),
        ("metrics.json", b"{", r"metrics\.json cannot be read"),
        ("metrics.json", b"[]", r"metrics\.json: figures are a mapping"),
    ],
)
def test_a_damaged_file_is_one_clear_line(file: str, content: bytes, said: str, tools: Path, tmp_path: Path) -> None:
    folder = small_run(tmp_path)
    (folder / "metrics.json").write_text("{}")
    (folder / file).write_bytes(content)
    with pytest.raises(HonestFaceError, match=said) as caught:
        pack(tmp_path, tmp_path / "bundle", "1", None, [folder / "metrics.json"], face_tools=tools)
    assert "\n" not in str(caught.value) and not (tmp_path / "bundle").exists()


def test_a_version_that_no_picture_can_carry_is_refused_before_anything_is_written(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="version: String should match"):
        pack(runs, tmp_path / "out", "1.0\n", 60.0)
    assert not (tmp_path / "out").exists()


def test_an_angle_is_needed_where_no_bundle_has_one(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(HonestFaceError, match="--matching-angle"):
        pack(runs, tmp_path / "bundle", "1", None)
