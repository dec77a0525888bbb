import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from models.errors import BundleError, HonestFaceError
from models.face_restorer import FaceRestorer
from models.picture import PictureLimits
from service import restore_command, restore_files
from service.restore_command import load_restorer, restore
from tests.toy_faces import ANNA, BEN, ToyGenerator, analyzer, photo

FACE = ((200.0, 180.0), 240.0)


@dataclass(frozen=True)
class Outcome:
    """What a shell sees, errors printed as `honestface.main` prints them."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
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


def save(path: Path, skin: tuple[int, int, int] | None = ANNA) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo((*FACE, skin)) if skin else photo()).save(path)
    return path


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def wide_png() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 20_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def test_a_photo_with_references(run: Run, tmp_path: Path) -> None:
    source, out = save(tmp_path / "in.png"), tmp_path / "new" / "out.png"
    references = [save(tmp_path / "r1.jpg"), save(tmp_path / "r2.png")]
    result = run(source, "-r", references[0], "-r", references[1], "-o", out, "--color-fix", "none")
    assert result.code == 0 and result.err == ""
    assert result.out.startswith(f"{out}: 1 face restored in ")
    change = pixels(out).astype(int) - pixels(source)
    assert change[180, 200].tolist() == pytest.approx([0.28 * 127.5] * 3, abs=2), "0.2 and 0.04 for each reference"
    assert not change[:, 340:].any()
    assert sorted(path.name for path in out.parent.iterdir()) == ["out.png"], "no unfinished file stays"


@pytest.mark.parametrize("name", ["out.png", "out.jpg", "out.JPEG", "out.webp"])
def test_the_ending_decides_the_format(run: Run, tmp_path: Path, name: str) -> None:
    assert run(save(tmp_path / "in.png"), "-o", tmp_path / name).code == 0
    with Image.open(tmp_path / name) as image:
        assert image.format == {"png": "PNG", "ebp": "WEBP"}.get(name[-3:], "JPEG")
        assert image.size == (480, 360)


def test_report_and_compare(run: Run, tmp_path: Path) -> None:
    source = save(tmp_path / "in.png")
    reference = save(tmp_path / "r.png")
    report, compare = tmp_path / "report.json", tmp_path / "compare.png"
    result = run(source, "-r", reference, "-o", tmp_path / "out.png", "--report", report, "--compare", compare)
    assert result.code == 0
    document = json.loads(report.read_text())
    assert document["references"] == [str(reference)] and document["options"]["strength"] == 1.0
    (face,) = document["faces"]
    assert face["report"]["chosen_reference"] == 0 and face["report"]["change_map"]["png"]
    assert face["report"]["identity_angle"]["by"] == "toy identity"
    both = pixels(compare)
    assert both.shape == (360, 480 + 4 + 480, 3)
    assert np.array_equal(both[:, :480], pixels(source))
    assert np.array_equal(both[:, -480:], pixels(tmp_path / "out.png"))


def test_options_reach_the_restorer(run: Run, tmp_path: Path) -> None:
    source = save(tmp_path / "in.png")
    run(source, "-o", tmp_path / "half.png", "--strength", "0.5", "--color-fix", "none", "--seed", "3")
    change = pixels(tmp_path / "half.png").astype(int) - pixels(source)
    assert change[180, 200].tolist() == pytest.approx([0.1 * 127.5] * 3, abs=2)
    result = run(source, "-o", tmp_path / "x.png", "--faces", "aligned")
    assert result.code == 1 and "square" in result.err


def test_upscaled(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out, compare = save(tmp_path / "in.png"), tmp_path / "out.png", tmp_path / "compare.png"
    assert run(source, "-o", out, "--upscale", "2", "--compare", compare).code == 0
    assert pixels(out).shape == (720, 960, 3)
    assert pixels(compare).shape == (720, 960 + 9 + 960, 3)
    monkeypatch.setattr(restore_files, "LIMITS", PictureLimits(pixels=500_000))
    result = run(source, "-o", tmp_path / "x.png", "--upscale", "2")
    assert result.code == 1 and not (tmp_path / "x.png").exists()
    assert result.err.strip() == (
        f"honestface: {source}: enlarged 2 times the picture would have 0.7 megapixels: at most 0.5 are made"
    )


def test_a_reference_of_somebody_else_is_told(run: Run, tmp_path: Path) -> None:
    source, friend, stranger = save(tmp_path / "a.png"), save(tmp_path / "f.png"), save(tmp_path / "b.png", BEN)
    result = run(source, "-r", friend, "-r", stranger, "-o", tmp_path / "out.png", "--color-fix", "none")
    assert result.code == 0
    assert result.err.startswith(f"warning: {stranger} seems to show another person than {source}")
    assert result.err.count("\n") == 1


def truncated(path: Path) -> bytes:
    return save(path.with_suffix(".whole.jpg")).read_bytes()[:2000]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: b"", "the file is empty (0 bytes)"),
        (truncated, "the JPEG file is truncated or damaged"),
        (lambda path: b"hello", "not a picture in a known format"),
        (lambda path: wide_png(), "30000x20000 pixels (600.0 megapixels): at most 64 megapixels"),
        (lambda path: save(path.with_suffix(".empty.png"), None).read_bytes(), "no face was found"),
        (None, "No such file or directory"),
    ],
    ids=["empty", "truncated", "text", "bomb", "no face", "missing"],
)
@pytest.mark.parametrize("role", ["photo", "reference"])
def test_one_clear_line_for_a_bad_file(
    run: Run, tmp_path: Path, make: Callable[[Path], bytes] | None, message: str, role: str
) -> None:
    bad, good = tmp_path / "bad.jpg", save(tmp_path / "good.png")
    if make is not None:
        bad.write_bytes(make(bad))
    photo, reference = (bad, good) if role == "photo" else (good, bad)
    result = run(photo, "-r", reference, "-o", tmp_path / "out.png")
    assert result.code == 1 and result.out == ""
    assert result.err.startswith(f"honestface: {bad}: {message}") or (
        f"{bad}: " in result.err and message in result.err
    )
    assert result.err.count("\n") == 1
    assert not (tmp_path / "out.png").exists()


def test_a_one_pixel_picture_has_no_face(run: Run, tmp_path: Path) -> None:
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    result = run(tmp_path / "dot.png", "-o", tmp_path / "out.png")
    assert (result.code, result.err) == (1, f"honestface: {tmp_path / 'dot.png'}: no face was found\n")


def test_files_are_read_before_the_networks_are_loaded(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore_command, "load_restorer", lambda *_: pytest.fail("loaded for nothing"))
    (tmp_path / "bad.jpg").write_bytes(b"")
    assert run(tmp_path / "bad.jpg", "-o", tmp_path / "out.png").code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in.png"], "Missing option"),
        (["in.png", "-o", "out.tiff"], "must end in .png, .jpg, .jpeg, .webp"),
        (["in.png", "-o", "in.png"], "would overwrite an input"),
        (["in.png", "-r", "ref.png", "-o", "ref.png"], "would overwrite an input"),
        (["in.png", "-o", "folder"], "is a folder"),
        (["in.png", "-o", "out.png", "--compare", "out.png"], "different names"),
        (["folder", "-o", "in.png"], "is a file"),
        (["folder", "-o", "folder"], "would overwrite an input"),
        (["in.png", "-o", "out.png", "--strength", "2"], "--strength"),
        (["in.png", "-o", "out.png", "--faces", "some"], "largest"),
    ],
)
def test_usage_errors(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    save(Path("in.png"))
    save(Path("ref.png"))
    save(Path("folder/a.png"))
    before = Path("in.png").read_bytes()
    result = run(*arguments)
    assert result.code == 2 and message in result.err
    assert Path("in.png").read_bytes() == before


def test_an_output_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    result = run(save(tmp_path / "in.png"), "-o", tmp_path / "file" / "out.png")
    assert result.code == 1 and result.err.count("\n") == 1 and str(tmp_path / "file") in result.err


def test_a_folder(run: Run, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for name in ("a.png", "deep/b.jpg", "c.bmp", ".hidden.png"):
        save(source / name)
    (source / "notes.txt").write_text("no picture")
    result = run(source, "-o", out, "--report", tmp_path / "reports", "--compare", tmp_path / "sides")
    assert result.code == 0, result.err
    assert "3 restored, 0 were finished already, 0 failed" in result.err
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert written == ["a.png", "c.bmp.png", "deep/b.jpg"]
    assert json.loads((tmp_path / "reports/deep/b.jpg.json").read_text())["faces"]
    assert pixels(tmp_path / "sides/c.bmp.png").shape[1] > 900


def test_a_folder_goes_on_after_bad_files_and_lists_them(run: Run, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    save(source / "good1.png")
    save(source / "good2.png")
    save(source / "nobody.png", None)
    (source / "empty.jpg").write_bytes(b"")
    (source / "broken.jpg").write_bytes(truncated(tmp_path / "t.jpg"))
    result = run(source, "-o", out)
    assert result.code == 1
    lines = result.err.strip().splitlines()
    assert lines[-4] == "2 restored, 0 were finished already, 3 failed"
    assert [line.split(": ")[0] for line in lines[-3:]] == [
        str(source / name) for name in ("broken.jpg", "empty.jpg", "nobody.png")
    ]
    assert sorted(path.name for path in out.iterdir()) == ["good1.png", "good2.png"]


def test_a_folder_is_resumed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for name in ("a.png", "b.png", "c.png"):
        save(source / name)
    write_picture = restore_files.write_picture

    def interrupted(path: Path, picture: object) -> None:
        if path.name == "b.png":
            raise KeyboardInterrupt
        write_picture(path, picture)  # type: ignore[arg-type]

    monkeypatch.setattr(restore_files, "write_picture", interrupted)
    assert run(source, "-o", out).code != 0
    assert sorted(path.name for path in out.iterdir()) == ["a.png"]
    first = (out / "a.png").stat().st_mtime_ns
    monkeypatch.setattr(restore_files, "write_picture", write_picture)
    result = run(source, "-o", out)
    assert result.code == 0 and "2 restored, 1 were finished already, 0 failed" in result.err
    assert (out / "a.png").stat().st_mtime_ns == first


def test_an_unfinished_file_never_bears_the_final_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        restore_files.write_whole(tmp_path / "out.png", b"data")
    assert list(tmp_path.iterdir()) == []


def test_outputs_inside_the_input_folder_are_not_restored_again(run: Run, tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    assert run(tmp_path, "-o", tmp_path / "restored").code == 0
    result = run(tmp_path, "-o", tmp_path / "restored")
    assert "0 restored, 1 were finished already, 0 failed" in result.err


def test_two_pictures_that_would_share_a_name(run: Run, tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.bmp")
    save(tmp_path / "in" / "a.bmp.png")
    result = run(tmp_path / "in", "-o", tmp_path / "out")
    assert result.code == 1 and "would both be written to" in result.err


def test_a_folder_without_pictures(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    result = run(tmp_path / "in", "-o", tmp_path / "out")
    assert result.code == 1 and "no pictures in this folder" in result.err


def test_a_device_that_does_not_exist() -> None:
    for device in ("warp-drive", "cuda:99"):
        with pytest.raises(HonestFaceError, match=f"device '{device}' cannot be used") as caught:
            load_restorer(None, device)
        assert "\n" not in str(caught.value)


def test_a_bundle_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is no bundle"):
        load_restorer(tmp_path, "cpu")


def test_a_list(run: Run, tmp_path: Path) -> None:
    below, elsewhere = save(tmp_path / "lists" / "deep" / "a.png"), save(tmp_path / "else" / "b.jpg")
    listing = tmp_path / "lists" / "list.txt"
    listing.write_text(f"deep/a.png\n\n  {elsewhere}  \ndeep/missing.bmp\n./deep/a.png\n")
    result = run(listing, "-o", tmp_path / "out")
    assert result.code == 1 and "2 restored, 0 were finished already, 1 failed" in result.err
    assert f"{listing.parent / 'deep/missing.bmp'}: No such file or directory" in result.err
    assert (tmp_path / "out" / "deep" / "a.png").exists(), "below the list's folder: the same place"
    assert (tmp_path / "out" / str(elsewhere).lstrip("/")).exists(), "elsewhere: the whole path"
    assert below.exists()


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe"])
def test_a_list_of_nothing(run: Run, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    result = run(tmp_path / "list.txt", "-o", tmp_path / "out")
    assert result.code == 1 and result.err.startswith(f"honestface: {tmp_path / 'list.txt'}: ")


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
    assert lines[1]["output"] == str(out / "b.png") and lines[1]["faces"] == 1 and 0 < lines[1]["seconds"] < 60
    assert "seems to show another person" in lines[1]["warnings"][0] and lines[1]["error"] is None
    assert lines[3]["error"] == f"{nobody}: no face was found" and lines[3]["faces"] is None
    with manifest.open("a") as stream:
        stream.write('{"input": "cut o')
    (out / "c.png").unlink()
    assert run(source, "-o", out, "--manifest", manifest).code == 1
    assert told()[4:] == [("a.png", "present"), ("c.png", "restored"), ("nobody.png", "failed")]


@pytest.mark.parametrize("content", ["a diary\n", "a diary", '[{"status": 1}]\n', "{}\n"])
def test_a_file_that_is_no_manifest_is_left_alone(run: Run, tmp_path: Path, content: str) -> None:
    save(tmp_path / "in" / "a.png")
    (tmp_path / "notes.txt").write_text(content)
    result = run(tmp_path / "in", "-o", tmp_path / "out", "--manifest", tmp_path / "notes.txt")
    assert result.code == 1 and "this manifest cannot be gone on with" in result.err
    assert (tmp_path / "notes.txt").read_text() == content and not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", [("--manifest", "m.jsonl"), ("--workers", "2")])
def test_options_of_an_archive_only(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: tuple[str, str]
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    result = run(save(tmp_path / "in.png"), "-o", tmp_path / "out.png", *option)
    assert result.code == 2 and "for a folder or a list" in result.err
