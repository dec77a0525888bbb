import io
import json
import logging
import struct
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from PIL import Image

from models.picture import decode
from service.logs import configure, event, logger
from tests.service.restoring import Run, save
from tests.service.running import ANNA_PHOTO, Steerable, running, toy_engine


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "stderr", stream)
    logging.captureWarnings(False)  # pytest has undone what an earlier test may have left on
    configure("debug")
    yield stream
    logging.captureWarnings(False)
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
    (loaded,) = (entry for entry in entries if entry["event"] == "loaded")
    assert (loaded["service_version"], loaded["api_key_required"]) == (version("honestface"), False)
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


def odd_exif() -> bytes:
    """Tags that claim more than the file has: Pillow warns of each."""
    tags = b"".join(struct.pack("<HHLL", 0x9000 + tag, 2, 1 << 20, 8) for tag in range(30))
    return b"Exif\0\0II*\0" + struct.pack("<LH", 8, 30) + tags + bytes(4)


@pytest.mark.filterwarnings("always")
def test_warnings_are_json_lines_but_for_those_that_a_file_makes(lines: io.StringIO) -> None:
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG", exif=odd_exif())
    with Image.open(out) as image:
        image.getexif()
    assert lines.getvalue() == ""
    warnings.warn("a library has something to say", stacklevel=1)
    (entry,) = (json.loads(line) for line in lines.getvalue().splitlines())
    assert (entry["level"], entry["logger"]) == ("warning", "py.warnings")
    assert "UserWarning: a library has something to say" in entry["event"]


def test_warnings_that_are_errors_stay_errors(lines: io.StringIO) -> None:
    with pytest.raises(UserWarning, match="odd"):
        warnings.warn("odd", stacklevel=1)
    assert lines.getvalue() == ""


@pytest.mark.filterwarnings("always")
def test_the_command_line_prints_none_that_a_file_makes(
    run: Run, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    path = save(tmp_path / "in.png")
    with Image.open(path) as image:
        image.save(path, exif=odd_exif())
    result = run(path, "-r", path, "-o", tmp_path / "out.png")
    assert (result.code, result.err) == (0, "")
    assert [str(each.message) for each in recwarn] == []
