"""The stages of the sd21 profile, by their commands and shipped settings, on a miniature of it."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

import training
from models.bundle import load_bundle, save_bundle
from models.errors import HonestFaceError, WeightsError
from models.face_detector import FaceDetectorConfig, FaceDetectorNetwork
from models.face_tools import FaceToolsConfig
from models.honestface import HonestFace
from models.identity_network import IdentityNetwork, IdentityNetworkConfig
from models.import_face_tools import import_arcface, import_scrfd
from models.landmark_network import LandmarkNetwork, LandmarkNetworkConfig
from models.profiles import PROFILES
from tests.models.small_onnx import save_arcface, save_scrfd
from tests.small_generator import KL, SMALL_SD21
from training.components import save_components
from training.pack import pack
from training.perceptual_distance import PerceptualConfig
from training.restoration_data import RestorationDataset, held_out_samples
from training.run import load_config, run
from training.stage import Batch
from training.stages import baseline, honestface, vre

pytestmark = pytest.mark.slow
CONFIGS = Path(training.__file__).parent / "configs" / "sd21"
LEAN = ["held_out_people=null", "steps=2", "batch=1", "workers=0", "threads=1", "precision=fp32", "warmup=0"]
NO_WEIGHTS = "{kind: mse, edges: true}"


def two_held_out(dataset: RestorationDataset, count: int) -> Batch:
    return held_out_samples(dataset, 1)


@pytest.fixture(scope="module")
def miniature() -> Iterator[None]:
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PROFILES, "sd21", SMALL_SD21)
        for stage in (vre, baseline, honestface):
            patch.setattr(stage, "held_out_samples", two_held_out)
        yield
    AcceleratorState._reset_state(True)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def face_tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with face networks; its generator is not looked at."""
    folder = tmp_path_factory.mktemp("tools")
    torch.manual_seed(0)
    networks = {
        "detector": FaceDetectorNetwork(FaceDetectorConfig()),
        "landmarks": LandmarkNetwork(LandmarkNetworkConfig()),
        "identity": IdentityNetwork(IdentityNetworkConfig()),
    }
    manifest = {
        "name": "tools",
        "version": "0",
        "profile": "sd21",
        "generator": SMALL_SD21,
        "face_tools": FaceToolsConfig(),
        "matching_angle": 60.0,
        "licence": "",
        "provenance": "",
        "training_data": [],
        "metrics": {},
    }
    save_bundle(folder, manifest, {name: dict(network.state_dict()) for name, network in networks.items()})
    return folder


@pytest.mark.usefixtures("miniature")
def test_from_the_base_model_to_references(face_folder: Path, face_tools: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    UNet2DConditionModel(**SMALL_SD21.unet).save_pretrained(tmp_path / "base" / "unet")
    AutoencoderKL(**KL.arguments).save_pretrained(tmp_path / "base" / "vae")
    data, runs = f"data={face_folder}", tmp_path / "runs"

    run(
        "vre",
        CONFIGS / "vre.yaml",
        [*LEAN, data, f"run={runs / 'vre'}", f"perceptual={NO_WEIGHTS}", "gan_from=0", "association_from=1"],
    )
    small = [*LEAN, data, f"perceptual={NO_WEIGHTS}", "decoded_side=128", "feature_side=128"]
    small += [f"face_tools={face_tools}", "recognisers=[]"]
    run(
        "baseline",
        CONFIGS / "baseline.yaml",
        [
            *small,
            f"run={runs / 'baseline'}",
            f"base_model={tmp_path / 'base'}",
            f"vre={runs / 'vre' / 'vre.safetensors'}",
        ],
    )
    trained = torch.load(runs / "baseline" / "checkpoint.pt", weights_only=True)
    assert {name.split(".")[0] for name in trained["network"]} >= {"unet", "vre"}
    assert all(".lora_" in name for name in trained["network"] if name.startswith("unet."))
    assert any(".lora_B." in name and value.any() for name, value in trained["network"].items())
    assert any(".lora_" in name for name in trained["adversary"])

    run(
        "honestface",
        CONFIGS / "honestface.yaml",
        [
            *small,
            f"run={runs / 'honestface'}",
            f"baseline={runs / 'baseline'}",
            f"mfa_distance={NO_WEIGHTS}",
            "eye_features=null",
            "reference_dropout=0",
            "wrong_person=0",
        ],
    )
    shape = SMALL_SD21.identity_embedder
    assert shape is not None and shape.encoder is not None
    embedder = replace(shape, encoder=replace(shape.encoder, identity_width=128))
    for name, expected in (("honestface", embedder), ("baseline", None)):
        out = tmp_path / f"{name}_bundle"
        pack(runs, out, "1", None, face_tools=face_tools, generator=name)
        bundle = load_bundle(out)
        assert bundle.generator.config.identity_embedder == expected
        assert (bundle.manifest.profile, bundle.analyzer.matching_angle) == ("sd21", 60.0)


def test_of_onnx_files_the_detector_will_do_and_the_identity_network_will_not(face_tools: Path, tmp_path: Path) -> None:
    tools = shutil.copytree(face_tools, tmp_path / "tools")
    distance = PerceptualConfig(kind="mse")
    config = honestface.HonestFaceStageConfig(
        data=tmp_path, run=tmp_path, baseline=tmp_path, face_tools=tools, perceptual=distance, steps=1, batch=1
    )
    import_scrfd(save_scrfd(tmp_path / "det.onnx"), tools)
    with pytest.raises(WeightsError, match="train the stage that makes it first"):  # the baseline: the tools were taken
        honestface.HonestFaceStage(config)
    save_arcface(tmp_path / "rec.onnx")
    import_arcface(tmp_path / "rec.onnx", tools)
    with pytest.raises(HonestFaceError, match=r"import the \.pt weights of arcface_torch") as caught:
        honestface.HonestFaceStage(config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("left_out", "prefix"), [("ffe", "facial_feature"), ("fie", "face_identity")])
@pytest.mark.usefixtures("miniature")
def test_ablations_of_the_identity_embedder(
    left_out: str, prefix: str, face_folder: Path, face_tools: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    save_components(HonestFace(replace(SMALL_SD21, identity_embedder=None)), tmp_path)
    overrides = [*LEAN, f"data={face_folder}", f"run={tmp_path}", f"baseline={tmp_path}", f"face_tools={face_tools}"]
    overrides += [f"perceptual={NO_WEIGHTS}", f"mfa_distance={NO_WEIGHTS}", "recognisers=[]", "eye_features=null"]
    overrides += [f"{left_out}=false", "latent_gan_weight=0"]
    config = load_config(CONFIGS / "honestface.yaml", honestface.HonestFaceStageConfig, overrides)
    assert isinstance(config, honestface.HonestFaceStageConfig)
    stage = honestface.HonestFaceStage(config)
    embedder = stage.network.identity_embedder
    assert embedder is not None
    assert not any(name.startswith(prefix) for name, _ in embedder.named_parameters())
    assert embedder.tokens == {"ffe": 7, "fie": 4}[left_out]
    with torch.inference_mode():
        assert stage._restore("own", 1).shape == (1, 3, 512, 512)
    (tmp_path / "honestface").mkdir()
    stage.export(tmp_path / "honestface")
    pack(tmp_path, tmp_path / "bundle", "1", None, face_tools=face_tools)
    packed = load_bundle(tmp_path / "bundle").generator.identity_embedder
    assert packed is not None and packed.tokens == embedder.tokens
