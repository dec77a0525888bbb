"""Settings out of range are one clear line, before anything is built."""

from importlib import import_module
from pathlib import Path

import pytest

import training
from models.errors import HonestFaceError
from training.degradation import PRESETS
from training.run import STAGES, load_config
from training.stage import TrainingConfig

CONFIGS = Path(training.__file__).parent / "configs"
AT_LEAST = "Input should be greater than or equal to"
AT_MOST = "Input should be less than or equal to"
NAMES = "vqfr-v1, vqfr-v2, wide, small, mild, print"


def load(stage: str, *overrides: str) -> TrainingConfig:
    module, config, _ = STAGES[stage]
    return load_config(CONFIGS / f"{stage}.yaml", getattr(import_module(module), config), list(overrides))


@pytest.mark.parametrize(
    ("stage", "override", "said"),
    [
        ("landmarks", "steps=-1", f"steps: {AT_LEAST} 0"),
        ("landmarks", "batch=0", f"batch: {AT_LEAST} 1"),
        ("landmarks", "learning_rate=-1", f"learning_rate: {AT_LEAST} 0"),
        ("landmarks", "discriminator_learning_rate=-1", f"discriminator_learning_rate: {AT_LEAST} 0"),
        ("landmarks", "warmup=-1", f"warmup: {AT_LEAST} 0"),
        ("landmarks", "weight_decay=-1", f"weight_decay: {AT_LEAST} 0"),
        ("landmarks", "gradient_clip=0", "gradient_clip: Input should be greater than 0"),
        ("landmarks", "ema=1.5", f"ema: {AT_MOST} 1"),
        ("landmarks", "seed=-1", f"seed: {AT_LEAST} 0"),
        ("landmarks", f"seed={2**63}", f"seed: Input should be less than {2**63}"),
        ("landmarks", "workers=-1", f"workers: {AT_LEAST} 0"),
        ("landmarks", "threads=0", f"threads: {AT_LEAST} 1"),
        ("landmarks", "max_seconds=-1", f"max_seconds: {AT_LEAST} 0"),
        ("vae", "feature_every=0", f"feature_every: {AT_LEAST} 1"),
        ("vae", "degraded_share=2", f"degraded_share: {AT_MOST} 1"),
        ("vae", "crop=1024", f"crop: {AT_MOST} 512"),
        ("vae", "crop=0", f"crop: {AT_LEAST} 4"),
        ("vae", "crop=126", "crop: Input should be a multiple of 4"),
        *((stage, "presets=[foo]", f"presets.0: is one of {NAMES}, not foo") for stage in ("vre", "baseline")),
        *((stage, "presets=[]", "presets: Tuple should have at least 1 item") for stage in ("vre", "honestface")),
        ("vre", "association_from=-1", f"association_from: {AT_LEAST} 0"),
        ("vre", "decoder_blocks=0", f"decoder_blocks: {AT_LEAST} 1"),
        ("vre", "pixel_gan_width=0", f"pixel_gan_width: {AT_LEAST} 1"),
        ("baseline", "feature_from=-1", f"feature_from: {AT_LEAST} 0"),
        ("landmarks", "coordinate_weight=-1", f"coordinate_weight: {AT_LEAST} 0"),
        ("vre", "gan_r1=-1", f"gan_r1: {AT_LEAST} 0"),
        ("baseline", "identity_weight=-0.1", f"identity_weight: {AT_LEAST} 0"),
        ("honestface", "mfa_weight=-1", f"mfa_weight: {AT_LEAST} 0"),
        ("honestface", "references=0", f"references: {AT_LEAST} 1"),
        ("honestface", "reference_dropout=2", f"reference_dropout: {AT_MOST} 1"),
        ("honestface", "wrong_person=-0.1", f"wrong_person: {AT_LEAST} 0"),
        ("honestface", "face_batch=0", f"face_batch: {AT_LEAST} 1"),
    ],
)
def test_out_of_range(stage: str, override: str, said: str) -> None:
    with pytest.raises(HonestFaceError) as caught:
        load(stage, override)
    assert f"{stage}.yaml: {said}" in str(caught.value) and "\n" not in str(caught.value)


def test_every_preset_can_be_set() -> None:
    assert list(PRESETS) == NAMES.split(", ")
    assert load("vre", f"presets=[{NAMES}]").model_dump()["presets"] == tuple(PRESETS)


def test_a_value_that_is_no_yaml_is_not_blamed_on_the_file() -> None:
    with pytest.raises(HonestFaceError, match=r"^--set steps: while parsing a flow") as caught:
        load("vae", "steps=[")
    assert "vae.yaml" not in str(caught.value) and "\n" not in str(caught.value)
