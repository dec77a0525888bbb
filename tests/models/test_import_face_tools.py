import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import models.import_face_tools
from models.bundle import Bundle, load_bundle, read_manifest, save_bundle, verify_bundle
from models.errors import BundleError, HonestFaceError, WeightsError
from models.face_detector import FaceDetectorConfig, FaceDetectorNetwork
from models.face_identity_encoder import FaceIdentityEncoderConfig
from models.face_tools import FaceToolsConfig
from models.facial_feature_extractor import FacialFeatureExtractorConfig
from models.fan import FanConfig, FanLandmarkDetector, fan
from models.geometry import arcface_crop
from models.honestface import HonestFace, HonestFaceConfig
from models.identity_embedder import IdentityEmbedderConfig
from models.identity_network import IdentityNetwork, IdentityNetworkConfig
from models.import_face_tools import import_arcface, import_fan, import_scrfd
from models.insightface_tools import ArcFaceOnnxConfig, ScrfdConfig
from models.iresnet import ArcFaceIdentityEncoder, IResNet, IResNetConfig
from models.landmark_network import LandmarkNetwork, LandmarkNetworkConfig
from models.pixel_unshuffle_autoencoder import PixelUnshuffleAutoencoderConfig
from models.visual_representation_embedder import VREConfig
from tests.models.small_onnx import save_arcface, save_scrfd

TOOLS = FaceToolsConfig(
    FaceDetectorConfig(widths=(4, 4, 4, 4), neck=4),
    LandmarkNetworkConfig(widths=(4, 4, 4, 4)),
    IdentityNetworkConfig(widths=(4, 4, 4, 4), embedding=8),
)
GENERATOR = HonestFaceConfig(
    vae=PixelUnshuffleAutoencoderConfig(latent_channels=4),
    unet={
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ("CrossAttnDownBlock2D",),
        "up_block_types": ("CrossAttnUpBlock2D",),
        "block_out_channels": (8,),
        "layers_per_block": 1,
        "cross_attention_dim": 8,
        "attention_head_dim": 4,
        "norm_num_groups": 4,
    },
    vre=VREConfig(
        image_size=16,
        channels=8,
        multipliers=(1, 2),
        residual_blocks=1,
        attention_resolutions=(),
        embedding_width=8,
        codebook_size=16,
        prompt_width=8,
        projection_width=8,
        groups=4,
    ),
)

EMBEDDER = IdentityEmbedderConfig(
    FacialFeatureExtractorConfig(prompt_width=8, patch_size=8, cells=1, width=8),
    FaceIdentityEncoderConfig(prompt_width=8, identity_width=8, width=8),
)


def make_bundle(folder: Path, embedder: IdentityEmbedderConfig | None = None) -> Path:
    torch.manual_seed(0)
    generator = HonestFaceConfig(GENERATOR.vae, GENERATOR.unet, GENERATOR.vre, identity_embedder=embedder)
    children = {name: child for name, child in HonestFace(generator).named_children() if child.state_dict()}
    networks = children | {
        "detector": FaceDetectorNetwork(TOOLS.detector),
        "landmarks": LandmarkNetwork(TOOLS.landmarks),  # type: ignore[arg-type]
        "identity": IdentityNetwork(TOOLS.identity),  # type: ignore[arg-type]
    }
    manifest = {
        "name": "small", "version": "1", "profile": "tiny", "generator": generator, "face_tools": TOOLS,
        "matching_angle": 60.0, "licence": "Apache-2.0", "provenance": "a test", "training_data": [], "metrics": {},
    }  # fmt: skip
    save_bundle(folder, manifest, {name: dict(network.state_dict()) for name, network in networks.items()})
    return folder


def small_arcface() -> IResNet:
    torch.manual_seed(1)
    network = IResNet(IResNetConfig((1, 2, 1, 1), (4, 6, 8, 8), 16)).eval()
    with torch.no_grad():
        network.bn1.running_mean.normal_()  # type: ignore[union-attr, operator]
    return network


@pytest.mark.parametrize("prefix", ["", "module."])
def test_arcface_becomes_the_identity_network(tmp_path: Path, prefix: str) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    network = small_arcface()
    state = {prefix + k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "backbone.pth")
    import_arcface(tmp_path / "backbone.pth", bundle, matching_angle=70.0)
    loaded = load_bundle(bundle)
    encoder = loaded.analyzer.identity_encoder
    assert isinstance(encoder, ArcFaceIdentityEncoder)
    assert (encoder.width, encoder.name, loaded.analyzer.matching_angle) == (16, "iResNet-12, 16-d", 70.0)
    faces = torch.rand(2, 3, 512, 512) * 2 - 1
    assert torch.equal(encoder.embed(faces), ArcFaceIdentityEncoder(network, "").embed(faces))
    manifest = read_manifest(bundle)
    assert manifest.face_tools.identity == network.config and manifest.face_tools.landmarks == TOOLS.landmarks
    assert "identity network: backbone.pth (sha256 " in manifest.provenance
    assert sorted(path.name for path in bundle.iterdir()) == sorted([*manifest.files, "bundle.json"])


def test_fan_becomes_the_landmark_network(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    torch.manual_seed(2)
    network = fan(FanConfig(1)).eval()
    torch.save(network.state_dict(), tmp_path / "2DFAN.pth.tar")
    import_fan(tmp_path / "2DFAN.pth.tar", bundle)
    loaded = load_bundle(bundle)
    detector = loaded.analyzer.landmark_detector
    assert isinstance(detector, FanLandmarkDetector) and detector.name == "FAN-1, 68 points"
    crops = torch.rand(1, 3, 256, 256) * 2 - 1
    with torch.no_grad():
        expected = FanLandmarkDetector(network, "").landmarks(crops)
        torch.testing.assert_close(detector.landmarks(crops).heatmaps, expected.heatmaps)  # last bits differ by layout
    assert read_manifest(bundle).face_tools.landmarks == FanConfig(1)
    assert loaded.analyzer.matching_angle == 60.0


def sound(bundle: Path) -> Bundle:
    """The bundle, loaded; nothing else lies beside its files."""
    manifest = verify_bundle(bundle)
    assert sorted(path.name for path in bundle.iterdir()) == sorted([*manifest.files, "bundle.json"])
    return load_bundle(bundle)


def test_onnx_files_become_detector_and_identity_network_and_others_follow(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", EMBEDDER)
    matrix = save_arcface(tmp_path / "w600k_r50.onnx")
    import_scrfd(save_scrfd(tmp_path / "det_10g.onnx"), bundle, threshold=0.6)
    import_arcface(tmp_path / "w600k_r50.onnx", bundle, matching_angle=70.0)
    loaded = sound(bundle)
    assert (bundle / "detector.onnx").read_bytes() == (tmp_path / "det_10g.onnx").read_bytes()
    assert {"detector.onnx", "landmarks.safetensors", "identity.onnx"} < set(loaded.manifest.files)
    assert not {"detector.safetensors", "identity.safetensors"} & set(loaded.manifest.files)
    tools = loaded.manifest.face_tools
    assert (tools.detector, tools.identity) == (ScrfdConfig(0.6), ArcFaceOnnxConfig(8))
    for part in ("detector network: det_10g.onnx", "identity network: w600k_r50.onnx"):
        assert f"{part} (sha256 " in loaded.manifest.provenance
    assert "detector network: as the publisher of det_10g.onnx states" in loaded.manifest.licence
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:32, :32, 0] = 255
    (face,) = loaded.analyzer.detector.detect(picture)
    assert face.box == (-16.0, -16.0, 16.0, 16.0) and face.score > 0.9
    faces = torch.rand(2, 3, 512, 512) * 2 - 1
    expected = torch.nn.functional.normalize(arcface_crop(faces).flatten(1) @ matrix, dim=1)
    assert torch.allclose(loaded.analyzer.identity_encoder.embed(faces), expected, atol=1e-4)
    assert loaded.analyzer.matching_angle == 70.0

    import_scrfd(save_scrfd(tmp_path / "det_500m.onnx", 128), bundle)  # one ONNX file in the place of another
    assert sound(bundle).manifest.face_tools.detector == ScrfdConfig(0.5)


def test_weights_of_arcface_torch_replace_an_onnx_file(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    save_arcface(tmp_path / "w600k_r50.onnx")
    import_arcface(tmp_path / "w600k_r50.onnx", bundle)
    torch.save(small_arcface().state_dict(), tmp_path / "backbone.pt")
    import_arcface(tmp_path / "backbone.pt", bundle)
    loaded = sound(bundle)
    assert isinstance(loaded.analyzer.identity_encoder, ArcFaceIdentityEncoder)
    assert "identity.onnx" not in loaded.manifest.files


@pytest.mark.parametrize(("call", "done"), [("replace", 0), ("replace", 1), ("unlink", 0)])
def test_a_crash_in_between_leaves_a_sound_bundle(
    tmp_path: Path, call: str, done: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The crash comes after `done` of the two renames, or before the old file is deleted."""
    bundle = make_bundle(tmp_path / "bundle")
    save_scrfd(tmp_path / "det.onnx")
    owner = models.import_face_tools.os if call == "replace" else Path
    real, left = getattr(owner, call), [None] * done

    def crash(*arguments: object, **named: object) -> object:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return real(*arguments, **named)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(owner, call, crash)
        import_scrfd(tmp_path / "det.onnx", bundle)
    new = isinstance(load_bundle(bundle).manifest.face_tools.detector, ScrfdConfig)
    assert new == (call == "unlink")
    import_scrfd(tmp_path / "det.onnx", bundle)
    assert isinstance(sound(bundle).manifest.face_tools.detector, ScrfdConfig)


def test_an_onnx_identity_of_another_width_is_refused(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", EMBEDDER)
    before = verify_bundle(bundle)
    save_arcface(tmp_path / "rec.onnx", 16)
    with pytest.raises(WeightsError, match=r"rec\.onnx.*width 16.*width 8"):
        import_arcface(tmp_path / "rec.onnx", bundle)
    assert sound(bundle).manifest == before


def test_onnx_files_that_do_not_fit_leave_the_bundle_as_it_was(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    before = verify_bundle(bundle)
    scrfd = save_scrfd(tmp_path / "det.onnx")
    save_arcface(tmp_path / "rec.onnx")
    broken, split = tmp_path / "broken.onnx", tmp_path / "split.onnx"
    broken.write_bytes(scrfd.read_bytes()[:500])
    onnx.save(onnx.load(str(tmp_path / "rec.onnx")), str(split), save_as_external_data=True, location="w.bin")
    for weights, said in (
        (tmp_path / "rec.onnx", "made for recognition, not for detection"),
        (broken, "not an ONNX network"),
        (tmp_path / "none.onnx", "no such file"),
        (bundle / "detector.safetensors", "are .onnx files"),
    ):
        with pytest.raises(WeightsError, match=said):
            import_scrfd(weights, bundle)
    for weights, said in ((scrfd, "made for detection"), (broken, "not an ONNX"), (split, "weights in other files")):
        with pytest.raises(WeightsError, match=said):
            import_arcface(weights, bundle)
    (tmp_path / "none").mkdir()
    for run in (import_scrfd, import_arcface):
        with pytest.raises(BundleError, match="is no bundle"):
            run(scrfd, tmp_path / "none")
    assert sound(bundle).manifest == before


def test_onnx_files_need_insightface(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    save_arcface(tmp_path / "rec.onnx")
    monkeypatch.setitem(sys.modules, "insightface.model_zoo", None)
    with pytest.raises(HonestFaceError, match=r"pip install honestface\[facetools\]"):
        import_arcface(tmp_path / "rec.onnx", bundle)
    sound(bundle)


def test_an_identity_of_another_width_is_refused(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", EMBEDDER)
    torch.save(small_arcface().state_dict(), tmp_path / "backbone.pth")
    with pytest.raises(WeightsError, match=r"width 16.*width 8"):
        import_arcface(tmp_path / "backbone.pth", bundle)


def test_what_does_not_fit_is_named_and_the_bundle_stays_sound(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    before = read_manifest(bundle)
    state = small_arcface().state_dict()
    del state["layer2.1.conv1.weight"]
    torch.save(state, tmp_path / "backbone.pth")
    with pytest.raises(WeightsError, match=r"backbone\.pth: layer2\.1\.conv1\.weight is missing"):
        import_arcface(tmp_path / "backbone.pth", bundle)
    with pytest.raises(WeightsError, match=r"backbone\.pth: not the weights of a FAN"):
        import_fan(tmp_path / "backbone.pth", bundle)
    assert verify_bundle(bundle) == before
