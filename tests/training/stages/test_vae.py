from pathlib import Path

import pytest
import torch
from PIL import Image

from models.pixel_unshuffle_autoencoder import PixelUnshuffleAutoencoder, PixelUnshuffleAutoencoderConfig
from tests.training.one_step import one_step
from training.components import load_component
from training.stages.vae import VAEConfig, VAEStage


@pytest.fixture(scope="module")
def stage(face_folder: Path, vgg16_file: Path) -> VAEStage:
    torch.manual_seed(0)
    return VAEStage(VAEConfig(data=face_folder, vgg16=vgg16_file, run=face_folder, steps=1, batch=2, crop=64))


def test_crops_of_sharp_pictures(stage: VAEStage) -> None:
    assert stage.dataset[0]["image"].shape == (3, 64, 64)
    assert torch.equal(stage.dataset[1]["image"], stage.dataset[1]["image"])


def test_pictures_of_mixed_sizes(vgg16_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder per person: the first is held out."""
    seen: list[torch.Size] = []
    monkeypatch.setattr(
        PixelUnshuffleAutoencoder, "fit_principal_components", lambda _, images: seen.append(images.shape)
    )
    for number, side in enumerate((300, 300, 512, 48)):
        (tmp_path / str(min(number, 1))).mkdir(exist_ok=True)
        Image.effect_noise((side, side), 50).convert("RGB").save(tmp_path / str(min(number, 1)) / f"{number}.png")
    Image.effect_noise((512, 512), 50).convert("RGB").save(tmp_path / "0" / "large.png")
    stage = VAEStage(VAEConfig(data=tmp_path, vgg16=vgg16_file, run=tmp_path, steps=1, batch=2, crop=64))
    assert seen == [(3, 3, 512, 512)] and stage._held_out_images().shape == (2, 3, 512, 512)
    assert all(stage.dataset[number]["image"].shape == (3, 64, 64) for number in range(12))  # also of the one of 48 px


def test_one_step_with_and_without_features(stage: VAEStage) -> None:
    assert set(one_step(stage, (0, 1), step=3)) == {"l1", "features"}
    assert set(stage.losses({"image": stage.dataset[0]["image"][None]}, 1)) == {"l1"}


def test_it_starts_from_principal_components(stage: VAEStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "features", lambda a, b: (a - b).abs().mean())  # VGG16 takes seconds at 512 px
    with torch.no_grad():
        figures = stage.validate()
        latents = stage.network.encode(torch.stack([stage.dataset[number]["image"] for number in range(16)]))
    assert figures["psnr"] > 35  # of drawn faces, before any step
    assert 0.2 < float(latents.std()) < 3


def test_pictures_and_export(stage: VAEStage, tmp_path: Path) -> None:
    with torch.no_grad():
        assert stage.pictures().shape == (3, 3 * 512, 2 * 512)
    stage.export(tmp_path)
    loaded = PixelUnshuffleAutoencoder(PixelUnshuffleAutoencoderConfig())
    load_component(loaded, tmp_path / "vae.safetensors")
    image = stage.dataset[0]["image"][None]
    assert torch.equal(loaded.encode(image), stage.network.encode(image))
