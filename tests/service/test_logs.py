import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
from PIL import Image

from models.picture import decode
from service.logs import configure, event, logger
from tests.service.running import ANNA_PHOTO, Steerable, running, toy_engine


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "stderr", stream)
    configure("debug")
    yield stream
    root.handlers[:], root.level = before, level


def test_an_event_is_one_json_line(lines: io.StringIO) -> None:
    event("started", port=8000)
    try:
        raise ValueError("why")
    except ValueError:
        logger.exception("failed")
    first, second = (json.loads(line) for line in lines.getvalue().splitlines())
    assert (first["event"], first["port"], first["level"], first["logger"]) == ("started", 8000, "info", "honestface")
    assert first["time"].endswith("Z")
    assert "ValueError: why" in second["traceback"]


def test_logs_tell_what_happened_and_nothing_of_whom(lines: io.StringIO) -> None:
    generator = Steerable()
    with running(lambda: toy_engine(generator)) as toy:
        files = {"image": ("grandmother-elsa.png", ANNA_PHOTO), "references": ("elsa-1950.png", ANNA_PHOTO)}
        toy.client.put("/reference-sets/elsa", files={"references": ("elsa.png", ANNA_PHOTO)})
        toy.client.post("/restore", files=files)
        generator.failures.append(ValueError("broken"))
        toy.client.post("/restore", files=files, headers={"x-request-id": "bad-one"})
        toy.client.get("/reference-sets/elsa-2")
        toy.client.get("/elsa")
    entries = [json.loads(line) for line in lines.getvalue().splitlines()]
    entries = [entry for entry in entries if not entry["logger"].startswith("http")]  # the test's own client
    assert [entry["api_key_required"] for entry in entries if entry["event"] == "loaded"] == [False]
    assert "elsa" not in json.dumps(entries).lower()
    requests = [entry for entry in entries if entry["event"] == "request"]
    restored = next(entry for entry in requests if entry["route"] == "/restore")
    assert (restored["status"], restored["faces"], restored["references"]) == (200, 1, 1)
    assert restored["device_s"] >= 0
    assert any("broken" in entry.get("traceback", "") and entry["request_id"] == "bad-one" for entry in entries)
    assert {entry["route"] for entry in requests} >= {"/restore", "/reference-sets/{id}", "other"}


def test_what_a_file_tells_of_itself_is_not_logged(lines: io.StringIO) -> None:
    """Pillow's reader of TIFF logs every tag at debug level."""
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "TIFF", description="Grandmother Elsa")
    decode(out.getvalue())
    assert "Elsa" not in lines.getvalue()
