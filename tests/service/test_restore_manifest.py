"""The manifest of `honestface restore` with many pictures."""

import json
from pathlib import Path

import pytest

from service.restore_archive import Manifest
from tests.service.restoring import Run, save
from tests.toy_faces import BEN


def test_a_manifest_tells_of_every_picture_over_several_runs(run: Run, tmp_path: Path) -> None:
    source, out, manifest = tmp_path / "in", tmp_path / "out", tmp_path / "told" / "manifest.jsonl"
    for name in ("a.png", "b.png", "c.png"):
        save(source / name)
    nobody = save(source / "nobody.png", None)
    assert run(source / "a.png", "-o", out / "a.png").code == 0, "by hand: no line tells of it"
    reference = save(tmp_path / "ben.png", BEN)

    def told() -> list[tuple[str, str]]:
        return [
            (Path(line["input"]).name, line["status"]) for line in map(json.loads, manifest.read_text().splitlines())
        ]

    assert run(source, "-r", reference, "-o", out, "--manifest", manifest).code == 1
    assert told() == [("a.png", "present"), ("b.png", "restored"), ("c.png", "restored"), ("nobody.png", "failed")]
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert [line["model"] and line["model"]["bundle"] for line in lines] == [None, *["honestface-tiny"] * 2, None]
    assert lines[1]["output"] == str(out / "b.png") and lines[1]["faces"] == 1 and 0 < lines[1]["seconds"] < 60
    assert "seems to show another person" in lines[1]["warnings"][0] and lines[1]["error"] is None
    assert lines[3]["error"] == f"{nobody}: no face was found" and lines[3]["faces"] is None
    with manifest.open("a") as stream:
        stream.write('{"input": "cut o')
    (out / "c.png").unlink()
    assert run(source, "-o", out, "--manifest", manifest).code == 1
    assert told()[4:] == [("a.png", "present"), ("c.png", "restored"), ("nobody.png", "failed")]


def test_a_last_line_that_lacks_only_its_end_is_kept(run: Run, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.jsonl"
    save(tmp_path / "in" / "a.png")
    assert run(tmp_path / "in", "-o", tmp_path / "out", "--manifest", manifest).code == 0
    whole = manifest.read_bytes()
    for cut, kept in ((1, whole), (2, b""), (len(whole) - 5, b"")):
        manifest.write_bytes(whole[:-cut])
        Manifest(manifest).close()
        assert manifest.read_bytes() == kept


def test_a_manifest_that_cannot_be_written_ends_the_run_in_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(manifest: Manifest, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Manifest, "_write", full_disk)
    save(tmp_path / "in" / "a.png")
    result = run(tmp_path / "in", "-o", tmp_path / "out", "--manifest", tmp_path / "m.jsonl")
    assert (result.code, result.err) == (1, f"honestface: {tmp_path / 'm.jsonl'}: No space left on device\n")


@pytest.mark.parametrize(
    "content",
    [
        "a diary\n",
        "a diary",
        '[{"status": 1}]\n',
        "{}\n",
        '{"my": "data"}',
        '{"status": "data"}',
        '{"input": "data"}',
        '{"my": "da',
        "{\n}",
    ],
)
def test_a_file_that_is_no_manifest_is_left_alone(run: Run, tmp_path: Path, content: str) -> None:
    save(tmp_path / "in" / "a.png")
    (tmp_path / "notes.txt").write_text(content)
    result = run(tmp_path / "in", "-o", tmp_path / "out", "--manifest", tmp_path / "notes.txt")
    assert result.code == 1 and "this manifest cannot be gone on with" in result.err
    assert (tmp_path / "notes.txt").read_text() == content and not (tmp_path / "out").exists()
