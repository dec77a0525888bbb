import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.metrics import Metrics

DOCKER = Path(__file__).parents[2] / "docker"
OPERATIONS = (DOCKER.parent / "docs" / "operations.md").read_text(encoding="utf-8")
PROMTOOL = shutil.which("promtool")


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DOCKER / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((DOCKER / "grafana" / "dashboards" / "honestface.json").read_text())[
        "panels"
    ]
    return found


def adapter() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((DOCKER / "kubernetes" / "prometheus-adapter.yaml").read_text())[
        "rules"
    ]["custom"]
    return found


def expressions() -> list[str]:
    queries = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [*queries, *(rule["expr"] for rule in alerts()), *(rule["seriesQuery"] for rule in adapter())]


@pytest.mark.parametrize("expression", expressions())
def test_every_series_and_label_is_one_of_the_service_s(expression: str) -> None:
    exposed = Metrics().exposition().decode()
    # Families without label values yet expose nothing but their type.
    series = set(re.findall(r"^(honestface_\w+)", exposed, re.MULTILINE)) | set(
        re.findall(r"^# TYPE (\w+)", exposed, re.MULTILINE)
    )
    series |= {
        f"{name}_{part}"
        for name in re.findall(r"^# TYPE (\w+) histogram", exposed, re.MULTILINE)
        for part in ("bucket", "sum", "count")
    }
    named = set(re.findall(r"\bhonestface_\w+", expression))
    assert named or "up{" in expression or "ALERTS{" in expression
    assert named <= series
    table = (DOCKER.parent / "docs" / "service.md").read_text(encoding="utf-8")
    documented = {
        label.strip()
        for labels in re.findall(r"^\| `honestface_\w+` \| \w+ \| ([\w, ]+) \|", table, re.MULTILINE)
        for label in labels.split(",")
    }
    used = set(re.findall(r"[{,]\s*(\w+)\s*(?:=~|!=|!~|=)", expression))
    assert used <= documented | {"job", "instance", "le", "namespace", "pod", "alertname", "alertstate"}


def test_every_alert_is_explained_and_tested() -> None:
    tests = (DOCKER / "prometheus" / "alerts_test.yml").read_text(encoding="utf-8")
    for rule in alerts():
        assert f"### {rule['alert']}\n" in OPERATIONS
        assert f"alertname: {rule['alert']}" in tests
        assert rule["labels"]["severity"] in ("warning", "critical")
    assert len(re.findall(r"^### HonestFace\w+$", OPERATIONS, re.MULTILINE)) == len(alerts())


def test_the_dashboard_uses_the_provisioned_source() -> None:
    sources = yaml.safe_load((DOCKER / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert {panel["datasource"]["uid"] for panel in panels()} == {source["uid"] for source in sources}
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_grafana_s_interval_is_prometheus() -> None:
    scraped = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text())["global"]["scrape_interval"]
    sources = yaml.safe_load((DOCKER / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert [source["jsonData"]["timeInterval"] for source in sources] == [scraped]


@pytest.mark.skipif(PROMTOOL is None, reason="needs promtool: apt-get install prometheus")
def test_promtool_accepts_the_configuration_and_the_alerts_fire() -> None:
    for command in (["check", "config", "prometheus.yml"], ["test", "rules", "alerts_test.yml"]):
        ended = subprocess.run(["promtool", *command], cwd=DOCKER / "prometheus", capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout + ended.stderr
