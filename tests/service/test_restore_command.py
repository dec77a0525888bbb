import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.bundle import TINY_BUNDLE, read_manifest
from models.errors import BundleError, HonestFaceError
from models.face_restorer import FaceRestorer
from models.picture import PictureLimits
from service import restore_command, restore_files
from service.restore_command import load_restorer
from tests.models.recording import Recording
from tests.pictures import restored_by
from tests.service.restoring import Run, pixels, save, truncated
from tests.toy_faces import BEN, analyzer


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
    tiny = read_manifest(TINY_BUNDLE)
    assert document["model"] == {"bundle": tiny.name, "version": tiny.version, "profile": tiny.profile}
    (face,) = document["faces"]
    assert face["report"]["chosen_reference"] == 0 and face["report"]["change_map"]["png"]
    assert face["report"]["identity_angle"]["by"] == "toy identity"
    both = pixels(compare)
    assert both.shape == (360, 480 + 4 + 480, 3)
    assert np.array_equal(both[:, :480], pixels(source))
    assert np.array_equal(both[:, -480:], pixels(tmp_path / "out.png"))
    marks = {restored_by(path.read_bytes()) for path in (tmp_path / "out.png", compare)}
    assert marks == {(f"HonestFace tiny {tiny.version}", "compositeWithTrainedAlgorithmicMedia")}


def test_options_reach_the_restorer(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, generator = save(tmp_path / "in.png"), Recording()
    monkeypatch.setattr(restore_command, "load_restorer", lambda *_: FaceRestorer(generator, analyzer()))
    run(source, "-o", tmp_path / "half.png", "--strength", "0.5", "--color-fix", "none", "--seed", "3")
    assert generator.asked == [(0.5, 3)]
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
    monkeypatch.setattr(restore_command, "load_restorer", lambda *_: pytest.fail("loaded for nothing"))
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


def test_a_restored_picture_is_no_evidence(run: Run, tmp_path: Path) -> None:
    source, restored = save(tmp_path / "in.png"), tmp_path / "restored.png"
    assert run(source, "-o", restored).err == ""
    told = f"warning: {restored} says that a trained model made it or part of it: its faces may be guesses\n"
    report = tmp_path / "report.json"
    as_reference = run(source, "-r", restored, "-r", source, "-o", tmp_path / "out.png", "--report", report)
    assert as_reference.err == told
    (face,) = json.loads(report.read_bytes())["faces"]
    assert [each["generated"] for each in face["report"]["references"]] == [True, False]
    assert run(restored, "-o", tmp_path / "again.png").err == told


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: b"", "the file is empty (0 bytes)"),
        (truncated, "the JPEG file is truncated or damaged"),
        (lambda path: b"hello", "not a picture in a known format"),
        (lambda path: wide_png(), "30000x20000 pixels (600.0 megapixels): at most 64 megapixels"),
        (lambda path: save(path.with_suffix(".empty.png"), None).read_bytes(), "no face was found"),
        (None, "No such file or directory"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    ],
    ids=["empty", "truncated", "text", "bomb", "no face", "missing", "loop"],
)
@pytest.mark.parametrize("role", ["photo", "reference"])
def test_one_clear_line_for_a_bad_file(
    run: Run, tmp_path: Path, make: Callable[[Path], bytes | None] | None, message: str, role: str
) -> None:
    bad, good = tmp_path / "bad.jpg", save(tmp_path / "good.png")
    if make is not None and (content := make(bad)) is not None:
        bad.write_bytes(content)
    photo, reference = (bad, good) if role == "photo" else (good, bad)
    result = run(photo, "-r", reference, "-o", tmp_path / "out.png")
    assert result.code == 1 and result.out == ""
    assert result.err.startswith(f"honestface: {bad}: {message}") or (
        f"{bad}: " in result.err and message in result.err
    )
    assert result.err.count("\n") == 1
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("name", ["in.nef", "in.DNG"])
def test_a_camera_raw_file_is_not_taken_for_its_preview(run: Run, tmp_path: Path, name: str) -> None:
    raw = save(tmp_path / "in.tif").rename(tmp_path / name)
    result = run(raw, "-o", tmp_path / "out.png")
    assert (result.code, result.err) == (
        1,
        f"honestface: {raw}: a camera raw file is not read: save it as TIFF, PNG or JPEG\n",
    )


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
        (["loop.png", "-o", "loop.png"], "would overwrite an input"),
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
    Path("loop.png").symlink_to("loop.png")
    before = Path("in.png").read_bytes()
    result = run(*arguments)
    assert result.code == 2 and message in result.err
    assert Path("in.png").read_bytes() == before


def test_an_output_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    result = run(save(tmp_path / "in.png"), "-o", tmp_path / "file" / "out.png")
    assert result.code == 1 and result.err.count("\n") == 1 and str(tmp_path / "file") in result.err


@pytest.mark.parametrize("option", ["--report", "--compare"])
def test_where_the_output_stands_all_is_done(run: Run, tmp_path: Path, option: str) -> None:
    (tmp_path / "file").write_text("no folder")
    result = run(save(tmp_path / "in.png"), "-o", tmp_path / "out.png", option, tmp_path / "file" / "other.png")
    assert result.code == 1 and not (tmp_path / "out.png").exists()


def test_an_unfinished_file_never_bears_the_final_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        restore_files.write_whole(tmp_path / "out.png", b"data")
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_does_not_exist() -> None:
    for device in ("warp-drive", "cuda:99"):
        with pytest.raises(HonestFaceError, match=f"device '{device}' cannot be used") as caught:
            load_restorer(None, device)
        assert "\n" not in str(caught.value)


def test_a_bundle_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is no bundle"):
        load_restorer(tmp_path, "cpu")
