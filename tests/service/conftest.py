from collections.abc import Iterator

import pytest
import typer
from typer.testing import CliRunner

from models.errors import HonestFaceError
from models.face_restorer import FaceRestorer
from service import restore_command
from service.restore_command import restore
from tests.service.restoring import Outcome, Run
from tests.service.running import Running, running
from tests.toy_faces import ToyGenerator, analyzer


@pytest.fixture(scope="module")
def toy() -> Iterator[Running]:
    """A service with toy networks and the settings that hold unless told otherwise."""
    with running() as service:
        yield service


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """`honestface restore` with toy networks."""
    monkeypatch.setattr(restore_command, "load_restorer", lambda *_: FaceRestorer(ToyGenerator(), analyzer()))
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(restore)

    def invoke(*arguments: object) -> Outcome:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if isinstance(result.exception, HonestFaceError):
            return Outcome(1, result.stdout, f"honestface: {result.exception}\n")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return invoke
