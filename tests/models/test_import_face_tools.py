from pathlib import Path

import pytest
import torch

from models.bundle import load_bundle, read_manifest, save_bundle, verify_bundle
from models.embedded_face_tools import FaceToolsConfig
from models.errors import WeightsError
from models.face_alignment_tools import FanConfig, FanLandmarkDetector, fan
from models.face_detector import FaceDetectorConfig, FaceDetectorNetwork
from models.face_identity_encoder import FaceIdentityEncoderConfig
from models.facial_feature_extractor import FacialFeatureExtractorConfig
from models.honestface import HonestFace, HonestFaceConfig
from models.identity_embedder import IdentityEmbedderConfig
from models.identity_network import IdentityNetwork, IdentityNetworkConfig
from models.import_face_tools import import_arcface, import_fan
from models.iresnet import ArcFaceIdentityEncoder, IResNet, IResNetConfig
from models.landmark_network import LandmarkNetwork, LandmarkNetworkConfig
from models.pixel_unshuffle_autoencoder import PixelUnshuffleAutoencoderConfig
from models.visual_representation_embedder import VREConfig

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


def test_an_identity_of_another_width_is_refused(tmp_path: Path) -> None:
    embedder = IdentityEmbedderConfig(
        FacialFeatureExtractorConfig(prompt_width=8, patch_size=8, cells=1, width=8),
        FaceIdentityEncoderConfig(prompt_width=8, identity_width=8, width=8),
    )
    bundle = make_bundle(tmp_path / "bundle", embedder)
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
