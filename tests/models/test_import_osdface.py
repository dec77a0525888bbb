"""Small files with the key names and shape relations of the released ones, imported and held against their makers."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.bundle import load_bundle, read_manifest, save_bundle
from models.errors import WeightsError
from models.face_detector import FaceDetectorConfig, FaceDetectorNetwork
from models.face_tools import FACE_TOOLS, FaceToolsConfig
from models.honestface import HonestFaceConfig
from models.identity_network import IdentityNetwork, IdentityNetworkConfig
from models.import_face_tools import import_arcface, import_scrfd
from models.import_osdface import import_osdface, vre_config_for
from models.landmark_network import LandmarkNetwork, LandmarkNetworkConfig
from models.lora import adapter_state, add_adapters
from models.one_step_diffusion import OneStepDiffusion, OneStepDiffusionConfig
from models.profiles import TINY
from models.visual_representation_embedder import VisualRepresentationEmbedder, VREConfig
from tests.models.small_onnx import save_arcface, save_scrfd

SIDE = 32
PROMPT = 24
VRE = VREConfig(
    image_size=SIDE,
    channels=32,
    multipliers=(1, 2),
    residual_blocks=2,
    attention_resolutions=(16,),
    embedding_width=48,
    codebook_size=40,
    prompt_width=PROMPT,
    projection_width=20,
    double_normalisation=True,
)
TOOLS = FaceToolsConfig(
    FaceDetectorConfig(widths=(4, 4, 4, 4), neck=4),
    LandmarkNetworkConfig(widths=(4, 4, 4, 4)),
    IdentityNetworkConfig(widths=(4, 4, 4, 4), embedding=8),
)


@dataclass(frozen=True)
class Release:
    """The released files and the networks that made them; the UNet carries its adapters unmerged."""

    base: Path
    lora: Path
    vre: Path
    projection: Path
    face_tools: Path
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    embedder: VisualRepresentationEmbedder

    def convert(self, out: Path, **changes: Path) -> Path:
        paths = {"base": self.base, "lora": self.lora, "vre": self.vre, "projection": self.projection} | changes
        import_osdface(**paths, out=out, face_tools=self.face_tools, image_size=SIDE)
        return out


def save_face_tools(folder: Path) -> None:
    networks = {
        "detector": FaceDetectorNetwork(TOOLS.detector),
        "landmarks": LandmarkNetwork(TOOLS.landmarks),  # type: ignore[arg-type]
        "identity": IdentityNetwork(TOOLS.identity),  # type: ignore[arg-type]
    }
    manifest = {
        "name": "tools", "version": "7", "profile": "tiny", "generator": TINY, "face_tools": TOOLS,
        "matching_angle": 61.0, "licence": "Apache-2.0", "provenance": "a test", "training_data": [], "metrics": {},
    }  # fmt: skip
    save_bundle(folder, manifest, {name: dict(network.state_dict()) for name, network in networks.items()})


def vre_checkpoint(embedder: VisualRepresentationEmbedder) -> dict[str, Tensor]:
    """As `associate_2.ckpt`: two branches, decoders, and a second norm in the attention that the encoder never uses."""
    state = {}
    for key, value in embedder.state_dict().items():
        if not key.startswith("projection."):
            state[f"vqvae_LQ.{key}"] = value
            state[f"vqvae_HQ.{key}"] = torch.zeros_like(value)
        if "attn" in key and ".norm1." in key:
            state[f"vqvae_LQ.{key.replace('norm1', 'norm2')}"] = torch.ones_like(value)
    state["vqvae_LQ.decoder.conv_in.weight"] = torch.zeros(2)
    state["vqvae_LQ.post_quant_conv.weight"] = torch.zeros(2)
    state["logit_scale"] = torch.tensor(2.65)
    return state


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("release")
    base = folder / "stable-diffusion-2-1-base"
    unet = UNet2DConditionModel(
        sample_size=SIDE // 2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        cross_attention_dim=PROMPT,
        attention_head_dim=(2, 4),
        norm_num_groups=8,
        use_linear_projection=True,
    ).eval()
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(16, 16),
        norm_num_groups=8,
    ).eval()
    unet.save_pretrained(base / "unet")
    vae.save_pretrained(base / "vae")
    (base / "scheduler").mkdir()
    (base / "scheduler" / "scheduler_config.json").write_text('{"prediction_type": "epsilon"}')
    add_adapters(unet, rank=4, alpha=16)
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    lora = {
        # As released: attention in diffusers' style, convolutions in peft's.
        key.replace("lora_A", "lora.down").replace("lora_B", "lora.up") if ".to_" in key else key: value
        for key, value in adapter_state(unet).items()
    }
    save_file(lora, folder / "pytorch_lora_weights.safetensors")
    embedder = VisualRepresentationEmbedder(VRE).eval()
    with torch.no_grad():
        embedder.codebook.normal_()
    torch.save({"state_dict": vre_checkpoint(embedder), "epoch": 1}, folder / "associate_2.ckpt")
    torch.save(dict(embedder.projection.state_dict()), folder / "embedding_change_weights.pth")
    save_face_tools(folder / "tools")
    return Release(
        base,
        folder / "pytorch_lora_weights.safetensors",
        folder / "associate_2.ckpt",
        folder / "embedding_change_weights.pth",
        folder / "tools",
        unet,
        vae,
        embedder,
    )


def expected_output(release: Release, picture: Tensor) -> Tensor:
    """The released pipeline, part by part, with unmerged LoRA and the mode of the VAE."""
    scaling = 0.18215
    prompt = release.embedder(picture)
    latent = release.vae.encode(picture).latent_dist.mode() * scaling
    epsilon = release.unet(latent, 399, encoder_hidden_states=prompt).sample
    restored = OneStepDiffusion(OneStepDiffusionConfig()).restored_latent(latent, epsilon)
    output: Tensor = release.vae.decode(restored.float() / scaling).sample
    return output


@torch.no_grad()
def test_the_bundle_restores_as_the_released_parts_do(release: Release, tmp_path: Path) -> None:
    bundle = load_bundle(release.convert(tmp_path / "osdface"))
    picture = torch.rand(2, 3, SIDE, SIDE) * 2 - 1
    generated = bundle.generator(picture)
    assert torch.equal(generated.prompt, release.embedder(picture))
    assert (generated.restored - expected_output(release, picture)).abs().max() < 1e-4
    unadapted = UNet2DConditionModel.from_pretrained(release.base / "unet")
    assert (bundle.generator.unet.conv_in.weight - unadapted.conv_in.weight).abs().max() > 1e-3


def test_the_bundle_says_where_it_comes_from(release: Release, tmp_path: Path) -> None:
    manifest = read_manifest(release.convert(tmp_path / "osdface"))
    assert isinstance(manifest.generator, HonestFaceConfig)
    assert manifest.generator.vre == VRE and manifest.generator.identity_embedder is None
    assert (manifest.profile, manifest.matching_angle, manifest.face_tools) == ("sd21", 61.0, TOOLS)
    assert "associate_2.ckpt (sha256 " in manifest.provenance and "tools 7" in manifest.provenance
    assert set(manifest.files) == {f"{n}.safetensors" for n in ("vae", "unet", "vre", *FACE_TOOLS)}


def test_onnx_files_among_the_face_tools_are_copied(release: Release, tmp_path: Path) -> None:
    tools = shutil.copytree(release.face_tools, tmp_path / "tools")
    save_scrfd(tmp_path / "det.onnx")
    save_arcface(tmp_path / "rec.onnx", 128)
    import_scrfd(tmp_path / "det.onnx", tools)
    import_arcface(tmp_path / "rec.onnx", tools)
    bundle = load_bundle(replace(release, face_tools=tools).convert(tmp_path / "osdface"))
    expected = read_manifest(tools)
    assert bundle.manifest.face_tools == expected.face_tools
    for name in ("detector.onnx", "identity.onnx"):
        assert bundle.manifest.files[name] == expected.files[name]
    assert bundle.analyzer.identity_encoder.name == "ArcFace (ONNX), 128-d"


def copy_with(path: Path, folder: Path, change: dict[str, Tensor | None]) -> Path:
    """A copy of a weight file with keys replaced, or left out for None."""
    safetensors = path.suffix == ".safetensors"
    content = load_file(path) if safetensors else torch.load(path, weights_only=True)
    state = {k: v for k, v in (content.get("state_dict", content) | change).items() if v is not None}
    if safetensors:
        save_file(state, folder / path.name)
    else:
        torch.save({"state_dict": state}, folder / path.name)
    return folder / path.name


def test_the_papers_embedder_is_recognised_by_its_shapes() -> None:
    with torch.device("meta"):
        state = VisualRepresentationEmbedder(VREConfig.sd21()).state_dict()
    assert vre_config_for(state, image_size=512) == VREConfig.sd21()


@pytest.mark.parametrize(
    ("file", "change", "named"),
    [
        ("vre", {"vqvae_LQ.encoder.conv_in.weight": None}, "encoder.conv_in.weight is missing"),
        ("vre", {"vqvae_LQ.encoder.mid.block_1.norm1.bias": None}, "encoder.mid.block_1.norm1.bias is missing"),
        ("vre", {"vqvae_LQ.quant_conv.bias": torch.zeros(3)}, "quant_conv.bias is (3,), not (48,)"),
        ("vre", {"vqvae_LQ.encoder.temb.weight": torch.zeros(1)}, "encoder.temb.weight fits nothing"),
        ("projection", {"conv2.weight": None}, "conv2.weight is missing"),
        ("projection", {"conv3.weight": torch.zeros(1)}, "projection.conv3.weight fits nothing"),
        ("lora", {"unet.conv_in.lora_B.weight": None}, "unet.conv_in.lora_A.weight has no partner"),
        ("lora", {"text_encoder.x.alpha": torch.zeros(1)}, "text_encoder.x.alpha is not a LoRA key"),
    ],
)
def test_what_does_not_fit_is_named(
    release: Release, tmp_path: Path, file: str, change: dict[str, Tensor | None], named: str
) -> None:
    path = copy_with(getattr(release, file), tmp_path, change)
    with pytest.raises(WeightsError) as raised:
        release.convert(tmp_path / "out", **{file: path})
    assert named in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_a_projection_for_another_unet_is_refused(release: Release, tmp_path: Path) -> None:
    change: dict[str, Tensor | None] = {"conv2.weight": torch.zeros(16, 20, 1), "conv2.bias": torch.zeros(16)}
    path = copy_with(release.projection, tmp_path, change)
    with pytest.raises(WeightsError, match="width 16"):
        release.convert(tmp_path / "out", projection=path)


def copy_base(release: Release, folder: Path) -> Path:
    for path in release.base.rglob("*"):
        if path.is_file():
            target = folder / path.relative_to(release.base)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return folder


def test_an_autoencoder_of_2022_is_read(release: Release, tmp_path: Path) -> None:
    base = copy_base(release, tmp_path / "base")
    path = base / "vae" / "diffusion_pytorch_model.safetensors"
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for key, value in load_file(path).items():
        for new_name, old_name in names.items():
            key = key.replace(f".{new_name}.", f".{old_name}.")
        old[key] = value
    assert any(".query." in key for key in old)
    path.unlink()
    torch.save(old, path.with_suffix(".bin"))
    plain = load_file(release.convert(tmp_path / "plain") / "vae.safetensors")
    converted = load_file(release.convert(tmp_path / "out", base=base) / "vae.safetensors")
    assert plain.keys() == converted.keys() and all(torch.equal(plain[key], converted[key]) for key in plain)


def test_a_model_that_predicts_velocity_is_refused(release: Release, tmp_path: Path) -> None:
    base = copy_base(release, tmp_path / "base")
    (base / "scheduler" / "scheduler_config.json").write_text('{"prediction_type": "v_prediction"}')
    with pytest.raises(WeightsError, match=r"v_prediction.*2\.1-base"):
        release.convert(tmp_path / "out", base=base)


def test_unknown_and_missing_settings_are_named(release: Release, tmp_path: Path) -> None:
    base = copy_base(release, tmp_path / "base")
    path = base / "unet" / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"hyperdrive": None}))
    release.convert(tmp_path / "fine", base=base)
    path.write_text(json.dumps(values | {"hyperdrive": 3}))
    with pytest.raises(WeightsError, match="hyperdrive is no setting of UNet2DConditionModel"):
        release.convert(tmp_path / "out", base=base)
    path.unlink()
    with pytest.raises(WeightsError, match=r"unet/config\.json: no such file"):
        release.convert(tmp_path / "out", base=base)
