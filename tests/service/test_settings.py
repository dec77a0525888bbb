import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.keys import hash_key, new_key
from service.metrics import Metrics
from service.problems import KINDS
from service.settings import Settings

DOCUMENT = (Path(__file__).parents[2] / "docs" / "service.md").read_text(encoding="utf-8")


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HONESTFACE_PORT", "9000")
    monkeypatch.setenv("HONESTFACE_API_KEYS", f"{'a' * 64}, {'b' * 64}")
    monkeypatch.setenv("HONESTFACE_MAX_MEGAPIXELS", "12.5")
    settings = Settings()
    assert (settings.port, settings.api_keys, settings.max_pixels) == (9000, ("a" * 64, "b" * 64), 12_500_000)
    assert Settings(port=9001).port == 9001, "arguments come first"


def test_secrets_come_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "honestface_api_keys").write_text(f"{'a' * 64}\n{'b' * 64}\n")
    assert Settings(_secrets_dir=tmp_path).api_keys == ("a" * 64, "b" * 64)  # type: ignore[call-arg]
    monkeypatch.setenv("HONESTFACE_API_KEYS", "c" * 64)
    assert Settings(_secrets_dir=tmp_path).api_keys == ("c" * 64,)  # type: ignore[call-arg]
    (tmp_path / "honestface_api_keys").write_text("")
    monkeypatch.delenv("HONESTFACE_API_KEYS")
    assert Settings(_secrets_dir=tmp_path).api_keys == (), "an empty file leaves the service open"  # type: ignore[call-arg]


@pytest.mark.parametrize(("name", "value"), [("PORT", "99999"), ("API_KEYS", "my-secret"), ("LOG_LEVEL", "loud")])
def test_wrong_settings_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"HONESTFACE_{name}", value)
    with pytest.raises(ValidationError):
        Settings()


def test_a_new_key_fits_its_hash() -> None:
    key, hashed = new_key()
    assert hash_key(key) == hashed and key not in hashed
    assert new_key()[0] != key


def test_the_batch_follows_the_device() -> None:
    assert Settings(device="cpu").faces_a_batch == 1
    assert Settings(device="cuda").faces_a_batch == 8
    assert Settings(device="cpu", max_batch=4).faces_a_batch == 4


def test_every_setting_is_documented() -> None:
    documented = set(re.findall(r"^\| `HONESTFACE_(\w+)`", DOCUMENT, re.MULTILINE))
    assert documented == {name.upper() for name in Settings.model_fields}


def test_every_metric_is_documented() -> None:
    documented = set(re.findall(r"^\| `(honestface_\w+)", DOCUMENT, re.MULTILINE))
    named = {family.name for family in Metrics().registry.collect() if not family.name.startswith("honestface_process")}
    assert documented == {name + "_total" if is_counter(name) else name for name in named}


def is_counter(name: str) -> bool:
    return any(family.name == name and family.type == "counter" for family in Metrics().registry.collect())


def test_every_problem_is_documented() -> None:
    documented = dict(re.findall(r"^\| `([a-z-]+)` \| (\d{3}) ", DOCUMENT, re.MULTILINE))
    assert documented == {kind.name: str(kind.status) for kind in KINDS.values()}
