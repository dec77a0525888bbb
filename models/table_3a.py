"""Table 3a of the paper beside ours: parameters and MACs of one 512 px face, component by component.

The paper prints sums only. Which components they hold was found by building the networks: one accounting explains all
four figures within 0.1 % (`ACCOUNTING`).
"""

from dataclasses import dataclass, replace

import torch

from models.autoencoder import KLAutoencoder
from models.complexity import LORA_RANK, Cost, measure, measure_lora, parameters
from models.honestface import HonestFace, HonestFaceConfig
from models.identity_network import IdentityNetwork, IdentityNetworkConfig
from models.iresnet import iresnet
from models.references import References
from models.vgg16 import vgg16_features

OSDFACE, HONESTFACE = "OSDFace", "HonestFace"

#: What the paper prints: parameters in millions, MACs in billions.
PAPER = {(OSDFACE, "parameters"): 978.4, (OSDFACE, "macs"): 2132.0}
PAPER |= {(HONESTFACE, "parameters"): 1059.0, (HONESTFACE, "macs"): 2282.0}

ACCOUNTING = (
    "MACs are those of linear and convolution layers at 512 x 512, batch 1; products inside attention are left out.",
    "OSDFace: parameters of UNet, VAE and VRE; MACs of UNet, VAE and the UNet's unmerged LoRA, without the VRE.",
    "HonestFace adds to the MACs the VRE, iResNet-100 for every reference (the paper's figure fits 4) and VGG16's "
    "layers 0 to 2 on two 128 px eyes; to the parameters the VRE's projection, iResNet-100 and all VGG16 convolutions.",
    "In no sum: LoRA's parameters (merged on load) and what follows VGG16 and iResNet in the identity embedder.",
)


@dataclass(frozen=True)
class Component:
    """A part of the system and the sums of Table 3a that hold it."""

    name: str
    cost: Cost
    parameters_of: tuple[str, ...] = ()
    macs_of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """A figure of Table 3a: the paper's and ours, in millions of parameters or billions of MACs."""

    model: str
    quantity: str
    paper: float
    ours: float

    @property
    def difference(self) -> float:
        """Relative difference; 0.005 is half a per cent."""
        return self.ours / self.paper - 1


def components(config: HonestFaceConfig, references: int = 4) -> list[Component]:
    """What one restoration of a 512 px face with this many references runs, measured on the meta device."""
    with torch.device("meta"):
        model = HonestFace(config).eval()
        picture = torch.empty(1, 3, 512, 512)
        parts = [*_autoencoder(model), *_unet(model, picture), *_embedder(model, picture)]
        if config.identity_embedder is not None:
            assert config.identity_embedder.encoder is not None  # only ablations lack it
            parts += _identity(model, config.identity_embedder.encoder.identity_width, references)
        if config.reference_adapter is not None:
            parts.append(_adapter(model))
    return parts


def compare(parts: list[Component]) -> list[Comparison]:
    """The four figures of Table 3a beside the sums of `parts`, which are those of the sd21 profile."""
    comparisons = []
    for (model, quantity), paper in PAPER.items():
        if quantity == "parameters":
            ours = sum(part.cost.parameters for part in parts if model in part.parameters_of) / 1e6
        else:
            ours = sum(part.cost.macs for part in parts if model in part.macs_of) / 1e9
        comparisons.append(Comparison(model, quantity, paper, ours))
    return comparisons


_BOTH = (OSDFACE, HONESTFACE)


def _autoencoder(model: HonestFace) -> list[Component]:
    vae = model.vae
    if isinstance(vae, KLAutoencoder):
        encoder = [vae.network.encoder, vae.network.quant_conv]
        decoder = [vae.network.decoder, vae.network.post_quant_conv]
    else:
        encoder, decoder = [vae.encoder], [vae.decoder]
    picture = torch.empty(1, 3, 512, 512)
    latent = vae.encode(picture)
    return [
        Component("VAE encoder", measure(encoder, lambda: vae.encode(picture)), _BOTH, _BOTH),
        Component("VAE decoder", measure(decoder, lambda: vae.decode(latent)), _BOTH, _BOTH),
    ]


def _unet(model: HonestFace, picture: torch.Tensor) -> list[Component]:
    latent, prompt = model.vae.encode(picture), model.vre(picture)

    def run() -> object:
        return model.predict(latent, prompt)

    return [
        Component("UNet", measure([model.unet], run), _BOTH, _BOTH),
        Component(f"unmerged LoRA, r = {LORA_RANK}", measure_lora(model.unet, run), (), _BOTH),
    ]


def _embedder(model: HonestFace, picture: torch.Tensor) -> list[Component]:
    vre = model.vre
    encoder = measure([vre.encoder, vre.quant_conv, vre.quantize], lambda: vre.encode(picture))
    tokens, _ = vre.select_tokens(vre.encode(picture))
    projection = measure([vre.projection], lambda: vre.projection(tokens))
    return [
        Component("VRE encoder and codebook", encoder, _BOTH, (HONESTFACE,)),
        Component("VRE projection", projection, (HONESTFACE,), (HONESTFACE,)),
    ]


def _identity(model: HonestFace, width: int, references: int) -> list[Component]:
    embedder = model.identity_embedder
    assert embedder is not None
    crop = torch.empty(1, 3, 112, 112)
    # The paper's ArcFace is 512 wide; any other width is that of the bundle's own network.
    network = iresnet(100) if width == 512 else IdentityNetwork(IdentityNetworkConfig(embedding=width))
    network = network.eval()
    name = "iResNet-100" if width == 512 else "identity network"
    encoder = measure([network], lambda: network(crop)).times(references)
    assert embedder.config.extractor is not None
    side = embedder.config.extractor.patch_size
    shallow = vgg16_features(2)
    eyes = measure([shallow], lambda: shallow(torch.empty(2, 3, side, side)))
    packed = References(
        torch.empty(references, 3, 512, 512),
        torch.empty(references, 68, 2),
        torch.empty(references, width),
        torch.zeros(references, dtype=torch.int64),
        1,
    )
    whole = measure([embedder], lambda: embedder(torch.empty(1, 68, 2), packed))
    own = Cost(whole.parameters - parameters(shallow), whole.macs - eyes.macs, whole.attention_macs)
    counted = replace(eyes, parameters=parameters(vgg16_features())) if width == 512 else eyes
    return [
        Component(f"{name}, {references} references", encoder, (HONESTFACE,), (HONESTFACE,)),
        Component(f"VGG16 on two {side} px eyes", counted, (HONESTFACE,), (HONESTFACE,)),
        Component("IDE, layers of its own", own),
    ]


def _adapter(model: HonestFace) -> Component:
    adapter, vae = model.reference_adapter, model.vae
    assert adapter is not None
    latent = vae.encode(torch.empty(1, 3, 512, 512))
    cost = measure([adapter], lambda: adapter(latent, latent, torch.empty(1), torch.ones(1, dtype=torch.bool)))
    return Component("reference adapter", cost)
