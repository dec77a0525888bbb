"""Turns the released OSDFace files and a Stable Diffusion 2.1-base folder into a bundle, which takes no references."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from models.bundle import TINY_BUNDLE, face_tool_components, load_exactly, save_bundle, sha256, verify_bundle
from models.diffusers_folder import read_unet, read_vae
from models.errors import WeightsError
from models.foreign_weights import read_weights
from models.honestface import HonestFaceConfig
from models.lora import merge_lora
from models.visual_representation_embedder import VisualRepresentationEmbedder, VREConfig

#: Prefix of the low-quality branch in `associate_2.ckpt`; the rest of the file served its training.
VRE_PREFIX = "vqvae_LQ."
_VRE_PARTS = ("encoder.", "quant_conv.", "quantize.")

LICENCE = (
    "Stable Diffusion 2.1-base: CreativeML Open RAIL++-M; OSDFace weights: published without a licence; "
    "face tools: that of the bundle they come from"
)


def import_osdface(
    base: Path,
    lora: Path,
    vre: Path,
    projection: Path,
    out: Path,
    *,
    face_tools: Path = TINY_BUNDLE,
    alpha: float = 16.0,
    image_size: int = 512,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a bundle to `out`: the base's VAE, its UNet with the LoRA merged in float32, and the VRE.

    `base` holds `unet/` and `vae/` as diffusers saves them, `lora` is `pytorch_lora_weights.safetensors`, `vre` is
    `associate_2.ckpt`, `projection` is `embedding_change_weights.pth`. Detector, landmark and identity network are
    copied from the bundle `face_tools` (`import_face_tools` replaces them). Weights are stored as `dtype`.

    Raises:
        WeightsError: a file is missing or does not fit; the message names the key.
        BundleError: `face_tools` is no sound bundle.
    """
    tools = verify_bundle(face_tools)
    unet_arguments, unet = read_unet(base)
    merge_lora(unet, read_weights(lora), alpha)
    vae_config, vae = read_vae(base)
    embedder = read_vre(vre, projection, image_size)
    if (width := unet_arguments.get("cross_attention_dim", 1280)) != embedder.config.prompt_width:
        raise WeightsError(
            f"{projection} makes prompts of width {embedder.config.prompt_width}, the UNet in {base} takes {width}"
        )
    networks = {"vae": vae, "unet": unet, "vre": embedder}
    weights = {name: dict(network.state_dict()) for name, network in networks.items()}
    components = {**weights, **face_tool_components(face_tools, tools)}
    sources = ", ".join(f"{path.name} (sha256 {sha256(path)})" for path in (lora, vre, projection))
    manifest = {
        "name": "osdface",
        "version": "1",
        "profile": "sd21",
        "generator": HonestFaceConfig(vae=vae_config, unet=unet_arguments, vre=embedder.config),
        "face_tools": tools.face_tools,
        "matching_angle": tools.matching_angle,
        "licence": LICENCE,
        "provenance": f"{sources}, merged into {base.name}; face tools of {tools.name} {tools.version}",
        "training_data": ["as the papers of Stable Diffusion and OSDFace state"],
        "metrics": {},
    }
    save_bundle(out, manifest, components, dtype)


def read_vre(vre: Path, projection: Path, image_size: int = 512) -> VisualRepresentationEmbedder:
    """The embedder whose shapes and weights two released files hold; they expect the picture normalised twice."""
    state = _vre_state(read_weights(vre), vre)
    state |= {f"projection.{key}": value for key, value in read_weights(projection).items()}
    try:
        config = vre_config_for(state, image_size)
    except KeyError as missing:
        file = projection if str(missing.args[0]).startswith("projection.") else vre
        raise WeightsError(f"{file}: {missing.args[0].removeprefix('projection.')} is missing") from None
    with torch.device("meta"):
        embedder = VisualRepresentationEmbedder(config)
    load_exactly(embedder, state, f"{vre.name} and {projection.name}")
    return embedder


def _vre_state(checkpoint: Mapping[str, Tensor], source: Path) -> dict[str, Tensor]:
    """Encoder, quant conv and codebook of the low-quality branch, under our names."""
    state = {}
    for key, value in checkpoint.items():
        name = key.removeprefix(VRE_PREFIX)
        if name == key or not name.startswith(_VRE_PARTS) or (".norm2." in name and _is_attention(name)):
            continue  # the attention's second norm is there for a decoder with two inputs; the encoder never uses it
        # taming calls the one norm of its attention plainly so
        state[name.replace(".norm.", ".norm1.") if _is_attention(name) else name] = value.float()
    if not state:
        raise WeightsError(f"{source} holds no key that starts with {VRE_PREFIX}encoder.")
    return state


def _is_attention(name: str) -> bool:
    return ".attn." in name or ".attn_1." in name


def vre_config_for(state: Mapping[str, Tensor], image_size: int) -> VREConfig:
    """The shapes of a released embedder, read off its weights; raises KeyError where one of those is missing."""
    channels = state["encoder.conv_in.weight"].shape[0]
    levels = len({key.split(".")[2] for key in state if key.startswith("encoder.down.")})
    multipliers = tuple(state[f"encoder.down.{i}.block.0.conv1.weight"].shape[0] // channels for i in range(levels))
    blocks = len({key.split(".")[4] for key in state if key.startswith("encoder.down.0.block.")})
    attention = tuple(image_size >> i for i in range(levels) if f"encoder.down.{i}.attn.0.q.weight" in state)
    codes, width = state["quantize.embedding.weight"].shape[:2]
    prompt_width, hidden = state["projection.conv2.weight"].shape[:2]
    return VREConfig(
        image_size=image_size,
        channels=channels,
        multipliers=multipliers,
        residual_blocks=blocks,
        attention_resolutions=attention,
        embedding_width=width,
        codebook_size=codes,
        prompt_width=prompt_width,
        projection_width=hidden,
        double_normalisation=True,
    )
