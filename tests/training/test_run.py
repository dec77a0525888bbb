from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState

import training
from models.errors import HonestFaceError
from tests.training.toy_stage import ToyConfig
from training import run as run_module
from training.cli import StageName
from training.run import STAGES, load_config, run
from training.stages.baseline import BaselineConfig
from training.stages.honestface import HonestFaceStageConfig

CONFIGS = Path(training.__file__).parent / "configs"


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "toy.yaml"
    values = {"data": str(tmp_path), "run": str(tmp_path / "run"), "steps": 2, "batch": 4}
    values |= {"workers": 0, "threads": 1, "precision": "fp32", "warmup": 0}
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(STAGES, "toy", ("tests.training.toy_stage", "ToyConfig", "ToyStage"))
    threads = torch.get_num_threads()
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)
    torch.set_num_threads(threads)


def test_settings_come_from_yaml(settings: Path) -> None:
    config = load_config(settings, ToyConfig, [])
    assert isinstance(config, ToyConfig)
    assert (config.steps, config.width, config.data) == (2, 4, settings.parent)


def test_overrides_are_yaml_values(settings: Path) -> None:
    config = load_config(settings, ToyConfig, ["steps=7", "learning_rate=1.0e-2", "width=9", "data=some/where=else"])
    assert (config.steps, config.learning_rate) == (7, 0.01)
    assert isinstance(config, ToyConfig) and config.width == 9
    assert config.data == Path("some/where=else")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["learningrate=1"], "learningrate: Extra inputs are not permitted"),
        (["steps=many"], "steps: Input should be a valid integer"),
        (["precision=fp8"], "precision: Input should be 'auto', 'bf16' or 'fp32'"),
        (["steps"], "--set takes KEY=VALUE, not 'steps'"),
        (["steps=["], "while parsing a flow"),
    ],
)
def test_a_mistake_in_set_is_one_clear_line(settings: Path, overrides: list[str], said: str) -> None:
    with pytest.raises(HonestFaceError) as caught:
        load_config(settings, ToyConfig, overrides)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"steps: [1", "while parsing"),
        (b"steps: 1\n\tbatch: 2", "found character"),
        (b"- steps", "a mapping of names to values"),
        (b"", "a mapping of names to values"),
        (b"\xff\xfe\x00", "decode"),
        (b"steps: 1", "data: Field required"),
    ],
)
def test_a_mistake_in_the_file_is_one_clear_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(HonestFaceError, match=r"bad\.yaml") as caught:
        load_config(path, ToyConfig, [])
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HonestFaceError, match="No such file"):
        load_config(tmp_path / "nowhere.yaml", ToyConfig, [])


@pytest.mark.parametrize("stage", ["vre", "baseline", "honestface"])
def test_the_settings_at_paper_scale_are_valid(stage: str) -> None:
    module, config, _ = STAGES[stage]
    settings = load_config(CONFIGS / "sd21" / f"{stage}.yaml", getattr(import_module(module), config), [])
    assert settings.run == Path("runs") / "sd21" / stage
    assert settings.data == Path("data/paper")  # with an index, which says who is held out


@pytest.mark.parametrize("stage", STAGES)
def test_the_shipped_settings_of_every_stage_are_valid(stage: str) -> None:
    module, config, built = STAGES[stage]
    settings = load_config(CONFIGS / f"{stage}.yaml", getattr(import_module(module), config), [])
    assert settings.run == Path("runs") / stage
    assert hasattr(import_module(module), built)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["crop_side=576"], "crop_side is 576, must be 1 to 512"),
        (["decoded_side=264"], "decoded_side is 264, must be 1 to 256"),
        (["decoded_side=252"], "decoded_side: Input should be a multiple of 8"),
        (["feature_side=0"], "feature_side is 0, must be 1 to 256"),
        (["feature_gan_weight=0.01", "feature_gan_side=257"], "feature_gan_side is 257, must be 1 to 256"),
        (
            ["decoded_side=56", "feature_side=32"],
            "decoded_side is 56, spectrum_weight needs 64 at least",
        ),
        (["feature_side=100"], "feature_side is 100, texture_weight needs a multiple of 32"),
        (["feature_weight=0", "feature_side=288"], "feature_side is 288, must be 1 to 256"),
        (["perceptual={kind: mse}"], "texture_weight needs a perceptual distance of kind vgg16-features"),
        (
            ["perceptual={kind: vgg16-features, backbone: vgg16.pt, edges: true}"],
            "texture_weight needs a perceptual distance of kind vgg16-features, without edges",
        ),
        (["mfa_every=9"], "mfa_every is 9, must be a multiple of face_every (6)"),
        *(
            ([f"{name}=0"], f"{name}: Input should be greater than or equal to 1")
            for name in ("feature_every", "mfa_every", "face_every", "gan_r1_every")
        ),
        *(([f"{name}=some"], f"{name}: Extra inputs are not permitted") for name in ("vae", "vre", "base_model")),
    ],
)
def test_restoration_settings_that_do_not_fit_are_one_clear_line(overrides: list[str], said: str) -> None:
    with pytest.raises(HonestFaceError) as caught:
        load_config(CONFIGS / "honestface.yaml", HonestFaceStageConfig, overrides)
    assert said in str(caught.value) and ": : " not in str(caught.value)


def test_a_blind_model_needs_an_autoencoder() -> None:
    with pytest.raises(HonestFaceError, match="an autoencoder is needed: set vae, base_model or warm_start"):
        load_config(CONFIGS / "baseline.yaml", BaselineConfig, ["vae=null"])
    for other in ("base_model", "warm_start"):
        load_config(CONFIGS / "baseline.yaml", BaselineConfig, ["vae=null", f"{other}=some"])


def test_sides_of_losses_that_are_off_are_not_looked_at() -> None:
    off = ["feature_weight=0", "texture_weight=0", "feature_gan_weight=0", "feature_side=999", "feature_gan_side=999"]
    config = load_config(CONFIGS / "honestface.yaml", HonestFaceStageConfig, off)
    assert isinstance(config, HonestFaceStageConfig) and config.feature_side == 999


def test_lists_in_yaml_become_settings() -> None:
    config = load_config(CONFIGS / "baseline.yaml", BaselineConfig, ["presets=[vqfr-v1, wide]"])
    assert isinstance(config, BaselineConfig) and config.presets == ("vqfr-v1", "wide")


def test_every_stage_is_a_choice_of_the_command() -> None:
    assert [name.value for name in StageName] == list(STAGES)


@pytest.mark.usefixtures("toy")
def test_a_stage_is_built_and_trained(settings: Path) -> None:
    run("toy", settings, ["steps=3"])
    assert (settings.parent / "run" / "toy.safetensors").exists()
    assert run_module.STAGES["toy"]


def test_where_no_face_is_seen_whole_mfa_may_be_due_at_any_step() -> None:
    settings = load_config(CONFIGS / "honestface.yaml", HonestFaceStageConfig, ["mfa_every=9", "identity_weight=0"])
    assert isinstance(settings, HonestFaceStageConfig) and settings.mfa_every == 9
