from pathlib import Path

import pytest
from pydantic import ValidationError

from models.errors import HonestFaceError
from service.keys import hash_key, new_key
from service.settings import Settings, read_settings


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


def test_wrong_settings_are_one_line_without_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HONESTFACE_API_KEYS", "hf_secret")
    monkeypatch.setenv("HONESTFACE_PORT", "abc")
    with pytest.raises(HonestFaceError) as caught:
        read_settings({})
    told = str(caught.value)
    assert "HONESTFACE_PORT: " in told and "HONESTFACE_API_KEYS: " in told
    assert "hf_secret" not in told and "\n" not in told


def test_given_settings_come_before_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HONESTFACE_PORT", "9000")
    assert read_settings({"port": 9001}).port == 9001


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "honestface_api_keys").write_text("a" * 64)
    for name in ("PORT", "BUNDLE", "API_KEYS"):
        monkeypatch.setenv(f"HONESTFACE_{name}", "")
    settings = Settings(_secrets_dir=tmp_path)  # type: ignore[call-arg]
    assert (settings.port, settings.bundle, settings.api_keys) == (8000, None, ("a" * 64,))


def test_a_misspelt_variable_is_told_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HONESTFACE_DEBUG", "HONESTFACE_CPUS", "HONESTFACE_SERVICE_HOST", "HONESTFACE_PORT_80_TCP_ADDR"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HONESTFACE_GPU_PORT", "tcp://10.0.0.1:80")
    read_settings({})
    for name in ("HONESTFACE_API_KEY", "HONESTFACE_API_KEYS_FILE"):
        monkeypatch.setenv(name, "a" * 64)
        with pytest.raises(HonestFaceError, match=rf"^{name} is no setting; HONESTFACE_API_KEYS is$"):
            read_settings({})
        monkeypatch.delenv(name)


def test_a_secret_that_is_misspelt_or_cannot_be_read_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("service.settings._SECRETS", tmp_path)
    (tmp_path / "another").mkdir()
    read_settings({})
    (tmp_path / "honestface_api_key").touch()
    with pytest.raises(HonestFaceError, match="honestface_api_key is no setting; honestface_api_keys is"):
        read_settings({})
    (tmp_path / "honestface_api_key").unlink()
    (tmp_path / "honestface_api_keys").mkdir()
    with pytest.raises(HonestFaceError, match="honestface_api_keys is not a file that this user can read"):
        read_settings({})
