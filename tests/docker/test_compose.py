import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]


@pytest.fixture(params=["honestface", "honestface-gpu"])
def service(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = SERVICES[request.param]
    return found


def test_up_starts_the_service_without_a_gpu_unless_asked() -> None:
    default = dict(line.split("=") for line in (ROOT / ".env").read_text(encoding="utf-8").splitlines())
    started = [name for name, each in SERVICES.items() if default["COMPOSE_PROFILES"] in each.get("profiles", ["cpu"])]
    assert started == ["honestface", "prometheus", "grafana"]
    devices = SERVICES["honestface-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]


def test_a_container_lives_longer_than_the_drain(service: dict[str, Any]) -> None:
    grace = float(re.fullmatch(r"(\d+)s", service["stop_grace_period"])[1])  # type: ignore[index]
    assert grace > Settings().drain_s


def test_variables_are_settings(service: dict[str, Any]) -> None:
    named = {name.removeprefix("HONESTFACE_").lower() for name in service["environment"]}
    assert named <= set(Settings.model_fields)


def test_secrets_are_settings_and_their_default_files_are_there(service: dict[str, Any]) -> None:
    for name in service["secrets"]:
        assert name.removeprefix("honestface_") in Settings.model_fields
        default = re.fullmatch(r"\$\{\w+:-(.+)\}", COMPOSE["secrets"][name]["file"])
        assert default is not None and (ROOT / default[1]).read_text(encoding="utf-8") == ""


def test_nothing_has_more_rights_or_resources_than_it_needs() -> None:
    for each in SERVICES.values():
        assert each["cap_drop"] == ["ALL"] and each["security_opt"] == ["no-new-privileges:true"]
        assert each["restart"] == "unless-stopped"
        assert set(each["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
        assert all(port.startswith("127.0.0.1:") for port in each["ports"])
    assert all(SERVICES[name]["read_only"] for name in ("honestface", "honestface-gpu", "prometheus"))


def test_mounted_files_are_there() -> None:
    mounted = [volume.split(":")[0] for each in SERVICES.values() for volume in each["volumes"] if volume[0] == "."]
    assert mounted and all((ROOT / path).is_dir() for path in mounted)
