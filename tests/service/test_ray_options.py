"""What is refused before Ray is started, with or without the extra."""

import os
import socket
import sys

import pytest
import typer
from typer.testing import CliRunner

from models.errors import HonestFaceError
from service.ray_app import Scaling, run
from service.ray_cluster import import_ray
from service.serve_command import serve
from service.settings import Settings


@pytest.mark.parametrize("replicas", ["0", "some", "1-", "4-2", "-3", "1-2-3"])
def test_numbers_of_replicas(replicas: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    app = typer.Typer()
    app.command()(serve)
    result = CliRunner().invoke(app, ["--replicas", replicas])
    assert result.exit_code == 2 and "replicas are a number from 1, or two such as 1-4" in result.stderr


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(HonestFaceError, match=f"127.0.0.1:{port}: Address already in use"):
            run(Settings(port=port), Scaling())  # type: ignore[call-arg]


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(HonestFaceError, match=r"pip install 'honestface\[ray\]'"):
        import_ray()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
