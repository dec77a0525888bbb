"""The paper's figures within 0.5 %, and each part against what was measured on the published networks."""

import pytest

from models.profiles import SD21, TINY
from models.table_3a import Component, compare, components


@pytest.fixture(scope="module")
def sd21() -> list[Component]:
    return components(SD21)


def test_table_3a_within_half_a_per_cent(sd21: list[Component]) -> None:
    figures = {(figure.model, figure.quantity): figure for figure in compare(sd21)}
    assert len(figures) == 4
    assert {key: figure.paper for key, figure in figures.items()} == {
        ("OSDFace", "parameters"): 978.4,
        ("OSDFace", "macs"): 2132.0,
        ("HonestFace", "parameters"): 1059.0,
        ("HonestFace", "macs"): 2282.0,
    }
    for figure in figures.values():
        assert abs(figure.difference) < 0.005, figure
        assert figure.ours == pytest.approx(figure.paper, rel=0.005)


@pytest.mark.parametrize(
    ("name", "millions", "gmacs"),
    [
        ("UNet", 865.911, 339.10),
        ("VAE encoder", 34.164, 541.15),
        ("VAE decoder", 49.490, 1240.08),
        ("unmerged LoRA, r = 16", 16.223, 12.01),
        ("VRE encoder and codebook", 29.169, 99.47),
        ("VRE projection", 0.394, 0.03),
        ("iResNet-100, 4 references", 65.156, 4 * 12.09),
        ("VGG16 on two 128 px eyes", 14.715, 1.265),
    ],
)
def test_components(sd21: list[Component], name: str, millions: float, gmacs: float) -> None:
    (component,) = (part for part in sd21 if part.name == name)
    assert component.cost.parameters / 1e6 == pytest.approx(millions, abs=1e-3)
    assert component.cost.macs / 1e9 == pytest.approx(gmacs, abs=6e-3)


def test_attention_products_of_the_unet_are_reported(sd21: list[Component]) -> None:
    (unet,) = (part for part in sd21 if part.name == "UNet")
    assert (unet.cost.macs + unet.cost.attention_macs) / 1e9 == pytest.approx(402.13, abs=0.01)


def test_the_tiny_profile_is_measured_too() -> None:
    parts = {part.name: part.cost for part in components(TINY, references=2)}
    assert "reference adapter" in parts and "identity network, 2 references" in parts
    assert all(cost.parameters > 0 and cost.macs > 0 for cost in parts.values())
    assert sum(cost.macs for cost in parts.values()) < 50e9
