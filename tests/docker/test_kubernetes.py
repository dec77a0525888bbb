import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.app import create_app
from service.settings import Settings
from tests.service.running import toy_engine

KUBERNETES = Path(__file__).parents[2] / "docker" / "kubernetes"
#: The oldest in which `preStop: sleep` needs no feature gate, and the newest that the tool knows.
VERSIONS = ("1.34", "1.37")
LABELS = {"app.kubernetes.io/name": "honestface"}


@cache
def render(overlay: str) -> list[dict[str, Any]]:
    """The manifests as kubectl would send them; kustomize is part of kubectl."""
    command = [Path(sys.executable).with_name("kubectl"), "kustomize", KUBERNETES / overlay]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "deprecated" not in ended.stderr
    return list(yaml.safe_load_all(ended.stdout))


@pytest.fixture(params=["base", "gpu"])
def manifests(request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    return {each["kind"]: each for each in render(request.param)}


def pod(manifests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = manifests["Deployment"]["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_fit_the_schemas(manifests: dict[str, dict[str, Any]], version: str) -> None:
    assert len(manifests) == 6
    for manifest in manifests.values():
        kubernetes_validate.validate(manifest, version, strict=True)


def test_a_wrong_field_is_found() -> None:
    service = next(each for each in render("base") if each["kind"] == "Service")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**service, "spec": {**service["spec"], "port": 80}}, VERSIONS[0], strict=True)


def test_everything_selects_the_pods(manifests: dict[str, dict[str, Any]]) -> None:
    assert manifests["Deployment"]["spec"]["template"]["metadata"]["labels"] == LABELS
    assert manifests["Deployment"]["spec"]["selector"] == {"matchLabels": LABELS}
    assert manifests["Service"]["spec"]["selector"] == LABELS
    assert manifests["PodDisruptionBudget"]["spec"]["selector"] == {"matchLabels": LABELS}
    assert manifests["NetworkPolicy"]["spec"]["podSelector"] == {"matchLabels": LABELS}
    assert (
        manifests["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"]
        == manifests["Deployment"]["metadata"]["name"]
    )


def test_probes_ask_what_the_service_answers(manifests: dict[str, dict[str, Any]]) -> None:
    container = pod(manifests)["containers"][0]
    paths = create_app(Settings(), toy_engine).openapi()["paths"]
    asked = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert asked == {"startup": "/startupz", "readiness": "/readyz", "liveness": "/livez"}
    assert set(asked.values()) <= set(paths)


def test_a_pod_has_the_time_to_drain(manifests: dict[str, dict[str, Any]]) -> None:
    container = pod(manifests)["containers"][0]
    variables = {each["name"]: each["value"] for each in container["env"]}
    drain = float(variables["HONESTFACE_DRAIN_S"])
    assert (
        pod(manifests)["terminationGracePeriodSeconds"] > container["lifecycle"]["preStop"]["sleep"]["seconds"] + drain
    )
    assert {name.removeprefix("HONESTFACE_").lower() for name in variables} <= set(Settings.model_fields)


def test_a_container_may_do_nothing_but_serve(manifests: dict[str, dict[str, Any]]) -> None:
    assert pod(manifests)["enableServiceLinks"] is False, "a link would set HONESTFACE_PORT"
    assert pod(manifests)["securityContext"]["runAsNonRoot"] and not pod(manifests)["automountServiceAccountToken"]
    assert pod(manifests)["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert manifests["NetworkPolicy"]["spec"]["egress"] == []
    assert set(manifests["NetworkPolicy"]["spec"]["policyTypes"]) == {"Ingress", "Egress"}


def test_pods_of_ray_have_no_links_either() -> None:
    documents = yaml.safe_load_all((KUBERNETES.parent / "kuberay.yaml").read_text(encoding="utf-8"))
    cluster = next(each for each in documents if each["kind"] == "RayService")["spec"]["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert group["template"]["spec"]["enableServiceLinks"] is False


def test_the_autoscaler_s_metric_is_the_adapter_s(manifests: dict[str, dict[str, Any]]) -> None:
    rules = yaml.safe_load((KUBERNETES / "prometheus-adapter.yaml").read_text(encoding="utf-8"))["rules"]["custom"]
    asked = {each["pods"]["metric"]["name"] for each in manifests["HorizontalPodAutoscaler"]["spec"]["metrics"]}
    assert asked == {rule["name"]["as"] for rule in rules}


def test_the_image_is_the_project_s_version(manifests: dict[str, dict[str, Any]]) -> None:
    project = tomllib.loads((KUBERNETES.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert pod(manifests)["containers"][0]["image"] == f"honestface:{project['version']}"
