"""An archive on a real Ray Data: killed half way and gone on with; pictures that cannot be read or kill a worker."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from service import restore_command
from tests.service.restoring import FACE, pixels, save
from tests.service.running import until
from tests.toy_faces import photo

pytest.importorskip("ray", reason="needs the extra `ray`: make ray-check")
pytestmark = pytest.mark.slow

_PROGRAM = """
import sys
from service import restore_command
from service.cli import app
from tests.service.ray_toys import deadly_restorer
restore_command.load_restorer = deadly_restorer
app(["restore", *sys.argv[1:]])
"""
GOOD = 30


def start(*arguments: object) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", _PROGRAM, *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def lines(manifest: Path) -> list[dict[str, object]]:
    whole = manifest.read_text().rpartition("\n")[0] if manifest.exists() else ""
    return [json.loads(line) for line in whole.splitlines()]


def test_an_archive_killed_half_way_is_gone_on_with(tmp_path: Path) -> None:
    source, out, manifest = tmp_path / "in", tmp_path / "out", tmp_path / "manifest.jsonl"
    good = [save(source / f"{index % 3}" / f"{index:02d}.jpg") for index in range(GOOD)]
    nobody = save(source / "nobody.png", None)
    deadly = source / "1" / "deadly.png"
    Image.fromarray(photo((*FACE, (60, 50, 50)))).save(deadly)
    broken = source / "broken.jpg"
    broken.write_bytes(good[0].read_bytes()[:1000])
    reference = save(tmp_path / "reference.png")
    arguments = (source, "-r", reference, "-o", out, "--manifest", manifest, "--workers", "2")

    first = start(*arguments)
    until(lambda: first.poll() is not None or len(lines(manifest)) >= 8, 400)
    assert first.poll() is None, first.communicate()
    everything = psutil.Process(first.pid).children(recursive=True)
    first.kill()
    first.communicate()
    _, alive = psutil.wait_procs(everything, timeout=30)
    # Ray's agents notice late that nobody is left; workers must not go on writing.
    assert all(process.name().endswith("Agent") for process in alive), alive
    for process in alive:
        process.kill()
    told, written = lines(manifest), [path for path in good if (out / path.relative_to(source)).exists()]
    assert 8 <= len(told) < GOOD and len(written) < GOOD
    stamps = {path: (out / path.relative_to(source)).stat().st_mtime_ns for path in written}
    with manifest.open("a") as stream:
        stream.write('{"input": "cut off in the mid')

    second = start(*arguments)
    _, shown = second.communicate(timeout=400)
    assert second.returncode == 1, shown
    last = {str(line["input"]): line for line in lines(manifest)}
    assert last.keys() == {str(path) for path in (*good, nobody, deadly, broken)}
    for path in good:
        output, line = out / path.relative_to(source), last[str(path)]
        assert pixels(output).shape == (360, 480, 3)
        assert line["output"] == str(output) and line["error"] is None
        if line["status"] == "present":
            assert path in stamps, "restored by the first run, which did not live to tell"
        else:
            assert (line["status"], line["faces"]) == ("restored", 1) and 0 < float(str(line["seconds"])) < 60
            assert line["model"] == restore_command.describe_model(None)
    assert {path: (out / path.relative_to(source)).stat().st_mtime_ns for path in written} == stamps
    failed = {path: str(line["error"]) for path, line in last.items() if line["status"] == "failed"}
    assert failed.keys() == {str(nobody), str(deadly), str(broken)}
    assert failed[str(nobody)].endswith("no face was found")
    assert "truncated or damaged" in failed[str(broken)]
    assert "2 workers died on it" in failed[str(deadly)]
    summary = f"{GOOD - len(written)} restored, {len(written)} were finished already, 3 failed"
    assert shown.strip().splitlines()[-4:] == [summary, *sorted(failed.values())]


def test_too_many_workers_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.png")
    started = time.monotonic()
    run = start(tmp_path / "in", "-o", tmp_path / "out", "--workers", "1", "--device", "cuda")
    _, shown = run.communicate(timeout=240)
    assert run.returncode != 0 and "0 GPUs are not enough for 1 workers" in shown, (shown, time.monotonic() - started)
