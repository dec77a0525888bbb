import re
import tomllib
from pathlib import Path

from service.app import create_app
from service.settings import Settings
from tests.service.running import toy_engine

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_image_has_the_project_s_version() -> None:
    assert f"ARG VERSION={PROJECT['project']['version']}\n" in DOCKERFILE


def test_everything_of_the_wheel_reaches_the_build() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for name in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]:
        assert re.search(rf"^COPY .*\b{re.escape(name)} ", DOCKERFILE, re.MULTILINE)
        assert f"!{name}" in ignored


def test_changed_sources_ship_no_dependencies() -> None:
    dependencies, package, image = re.split(r"^FROM .*\n", DOCKERFILE, flags=re.MULTILINE)[1:]
    assert "COPY models" not in dependencies and "--no-deps" in package
    assert image.index("COPY --from=dependencies /opt") < image.index("COPY --from=build")


def test_opencv_is_replaced_by_the_version_that_the_face_libraries_were_tested_with() -> None:
    import importlib.metadata

    replaced = re.search(r"opencv-python-headless==([\d.]+)", DOCKERFILE)
    assert replaced is not None and replaced[1] == importlib.metadata.version("opencv-python")


def test_the_health_check_asks_a_probe_that_exists() -> None:
    paths = create_app(Settings(), toy_engine).openapi()["paths"]
    asked = re.findall(r"\}(/\w+)'", DOCKERFILE)
    assert asked == ["/readyz"] and asked[0] in paths


def test_variables_of_the_image_are_settings() -> None:
    named = {name.lower() for name in re.findall(r"HONESTFACE_(\w+)=", DOCKERFILE)}
    assert named and named <= set(Settings.model_fields)
