from pathlib import Path

from models.bundle import TINY_BUNDLE, read_manifest
from training.model_card import CARD, LICENCE, PROVENANCE, TRAINING_DATA

DOCS = Path(__file__).parents[2] / "docs"


def words(text: str) -> str:
    return " ".join(text.replace("**", "").split())


def test_the_embedded_bundle_says_what_the_model_card_says() -> None:
    manifest = read_manifest(TINY_BUNDLE)
    assert (manifest.card, manifest.licence, manifest.provenance) == (CARD, LICENCE, PROVENANCE)
    assert manifest.training_data == list(TRAINING_DATA)
    text = words((DOCS / "model_card.md").read_text())
    assert f"# Model card: {manifest.name} {manifest.version}" in text
    for sentence in (CARD.intended_use, CARD.unintended_use, *CARD.limits):
        assert words(sentence).rstrip(".") in text


def test_every_figure_of_the_embedded_bundle_has_its_command_and_stands_in_the_model_card() -> None:
    metrics = read_manifest(TINY_BUNDLE).metrics
    assert set(metrics) == {"mild", "print", "vqfr-v1", "vqfr-v2"}
    text = (DOCS / "model_card.md").read_text()
    for preset, found in metrics.items():
        assert found["command"].startswith("honestface evaluate --data DATA ")
        assert f" --preset {preset} --count {found['faces']} --vgg16 VGG16" in found["command"]
        row = found["figures"]["references"]
        assert f"| references | {row['PSNR']:.2f} | {row['SSIM']:.3f} |" in text
