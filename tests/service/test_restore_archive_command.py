"""`honestface restore` with a folder or a list of pictures."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from PIL import Image

from models.errors import HonestFaceError
from service import restore_archive, restore_files
from service.restore_archive import Entry, Manifest, Plan, Result
from service.restore_files import Targets
from tests.service.restoring import FACE, Run, pixels, save, truncated
from tests.toy_faces import ANNA, photo


def test_a_folder(run: Run, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    left_out = (".hidden.png", ".hidden/d.png", "lost+found/e.png", "$RECYCLE.BIN/f.png")
    for name in ("a.png", "deep/b.jpg", "c.bmp", *left_out):
        save(source / name)
    (source / "notes.txt").write_text("no picture")
    result = run(source, "-o", out, "--report", tmp_path / "reports", "--compare", tmp_path / "sides")
    assert result.code == 0, result.err
    assert "3 restored, 0 were finished already, 0 failed" in result.err
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert written == ["a.png", "c.bmp.png", "deep/b.jpg"]
    assert json.loads((tmp_path / "reports/deep/b.jpg.json").read_text())["faces"]
    assert pixels(tmp_path / "sides/c.bmp.png").shape[1] > 900


def test_no_photograph_of_a_folder_is_left_out_in_silence(run: Run, tmp_path: Path) -> None:
    source, out, manifest = tmp_path / "in", tmp_path / "out", tmp_path / "manifest.jsonl"
    jpeg, tiff = save(tmp_path / "a.jpg").read_bytes(), save(tmp_path / "a.tif").read_bytes()
    source.mkdir()
    for name in ("a.jfif", "b.JPE", "c.jif"):
        (source / name).write_bytes(jpeg)
    unread = ["d.heic", "e.heif", "f.jp2", "g.jxl"]
    unread += [f"h.{raw}" for raw in ("arw", "cr2", "cr3", "dng", "nef", "orf", "rw2")]
    for name in unread:
        (source / name).write_bytes(tiff if name.startswith("h") else b"\0\0\0\x18ftypheic")
    for name in ("notes.txt", "a.xmp", "letter"):
        (source / name).write_text("no picture")
    result = run(source, "-o", out, "--manifest", manifest)
    assert result.code == 1
    summary, *failures = result.err.strip().splitlines()
    assert summary == "3 restored, 0 were finished already, 11 failed; 3 other files were left out"
    assert [line.split(": ")[0] for line in failures] == [str(source / name) for name in unread]
    assert all(": a camera raw file is not read: " in line for line in failures[4:]), "though it is a TIFF"
    told = {Path(line["input"]).name: line["status"] for line in map(json.loads, manifest.read_text().splitlines())}
    assert [name for name, status in told.items() if status == "failed"] == unread and len(told) == 14
    (source / "a.xmp").unlink()
    (source / "letter").unlink()
    assert "11 failed; 1 other file was left out\n" in run(source, "-o", out).err


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
    assert len(lines) == 4 and result.err.startswith(lines[0]), "no blank line where no progress is shown"
    assert [line.split(": ")[0] for line in lines[-3:]] == [
        str(source / name) for name in ("broken.jpg", "empty.jpg", "nobody.png")
    ]
    assert sorted(path.name for path in out.iterdir()) == ["good1.png", "good2.png"]


def test_a_folder_is_resumed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for name in ("a.png", "b.png", "c.png"):
        save(source / name)
    write_picture = restore_files.write_picture

    def interrupted(path: Path, *written: object) -> None:
        if path.name == "b.png":
            raise KeyboardInterrupt
        write_picture(path, *written)  # type: ignore[arg-type]

    monkeypatch.setattr(restore_files, "write_picture", interrupted)
    assert run(source, "-o", out).code != 0
    assert sorted(path.name for path in out.iterdir()) == ["a.png"]
    first = (out / "a.png").stat().st_mtime_ns
    monkeypatch.setattr(restore_files, "write_picture", write_picture)
    result = run(source, "-o", out)
    assert result.code == 0 and "2 restored, 1 were finished already, 0 failed" in result.err
    assert (out / "a.png").stat().st_mtime_ns == first


def test_an_interrupted_folder_tells_what_became_of_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out, manifest = tmp_path / "in", tmp_path / "out", tmp_path / "manifest.jsonl"
    for name in ("a.png", "c.png", "d.png"):
        save(source / name)
    nobody = save(source / "b.png", None)
    save(out / "a.png")
    write_picture = restore_files.write_picture

    def interrupted(path: Path, *written: object) -> None:
        if path.name == "d.png":
            raise KeyboardInterrupt
        write_picture(path, *written)  # type: ignore[arg-type]

    manifests = []

    class Watched(Manifest):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            manifests.append(self)

    monkeypatch.setattr(restore_archive, "Manifest", Watched)
    monkeypatch.setattr(restore_files, "write_picture", interrupted)
    result = run(source, "-o", out, "--manifest", manifest)
    assert result.code == 130
    assert result.err.splitlines() == [
        "1 restored, 1 were finished already, 1 failed",
        f"{nobody}: no face was found",
        "interrupted: run it again to go on",
    ]
    lines = [json.loads(line)["status"] for line in manifest.read_text().splitlines()]
    assert lines == ["present", "failed", "restored"] and manifests[0]._file.closed


def test_what_lacks_a_report_is_not_finished(run: Run, tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.png")
    assert run(tmp_path / "in", "-o", tmp_path / "out").code == 0
    result = run(tmp_path / "in", "-o", tmp_path / "out", "--report", tmp_path / "reports")
    assert "1 restored, 0 were finished already, 0 failed" in result.err
    assert json.loads((tmp_path / "reports" / "a.png.json").read_text())


def test_a_folder_that_is_not_there_is_what_is_wrong(run: Run, tmp_path: Path) -> None:
    album = tmp_path / "albun"
    (tmp_path / "out").mkdir()
    for output in ("new", "out"):
        result = run(album, "-o", tmp_path / output, "--manifest", tmp_path / "manifest.jsonl")
        assert (result.code, result.err) == (1, f"honestface: {album}: No such file or directory\n")


def test_a_folder_that_workers_gave_up_tells_what_became_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def restore(entries: Sequence[Entry]) -> Iterator[Result]:
        yield Result(entries[0].photo, "a.png", "failed", error="a.jpg: no face was found")
        raise HonestFaceError("the workers are gone")

    plan = Plan([Entry("a.jpg", "a.jpg"), Entry("b.jpg", "b.jpg")])
    with pytest.raises(HonestFaceError, match="the workers are gone"):
        restore_archive.restore_archive(plan, Targets(tmp_path / "out"), restore, None)
    told = capsys.readouterr().err.splitlines()
    assert told[-3:] == [
        "0 restored, 0 were finished already, 1 failed",
        "a.jpg: no face was found",
        "interrupted: run it again to go on",
    ]


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


@pytest.mark.parametrize("option", [("--manifest", "m.jsonl"), ("--workers", "2")])
def test_options_of_an_archive_only(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: tuple[str, str]
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    result = run(save(tmp_path / "in.png"), "-o", tmp_path / "out.png", *option)
    assert result.code == 2 and "for a folder or a list" in result.err


def test_no_original_is_overwritten(run: Run, tmp_path: Path) -> None:
    photo = save(tmp_path / "in" / "a.png")
    before = photo.read_bytes()
    reference = save(tmp_path / "out" / "a.png")
    listing = tmp_path / "in" / "list.txt"
    listing.write_text("a.png\n")
    for where in (["-o", tmp_path / "in"], ["-o", tmp_path / "new", "--compare", tmp_path / "in"]):
        result = run(listing, *where)
        assert result.code == 1 and f"{photo} would overwrite an input" in result.err
    result = run(listing, "-r", reference, "-o", tmp_path / "out")
    assert result.code == 1 and f"{reference} would overwrite an input" in result.err
    (tmp_path / "alias").symlink_to(tmp_path / "in")
    assert run(listing, "-o", tmp_path / "alias").code == 1
    assert photo.read_bytes() == before and not (tmp_path / "new").exists()


def test_no_original_is_overwritten_through_a_link(run: Run, tmp_path: Path) -> None:
    photo = save(tmp_path / "in" / "sub" / "x.png")
    before, sides = photo.read_bytes(), tmp_path / "sides"
    sides.mkdir()
    (sides / "sub").symlink_to(photo.parent)
    result = run(tmp_path / "in", "-o", tmp_path / "out", "--compare", sides)
    assert result.code == 1 and f"{sides / 'sub' / 'x.png'} would overwrite an input" in result.err
    assert photo.read_bytes() == before and not (tmp_path / "out").exists()


def test_a_link_that_is_an_input_is_not_replaced(run: Run, tmp_path: Path) -> None:
    link = tmp_path / "in" / "a.png"
    link.parent.mkdir()
    link.symlink_to(save(tmp_path / "else" / "a.png"))
    (tmp_path / "in" / "list.txt").write_text("a.png\n")
    result = run(tmp_path / "in" / "list.txt", "-o", tmp_path / "out", "--compare", tmp_path / "in")
    assert result.code == 1 and f"{link} would overwrite an input" in result.err and link.is_symlink()


def test_no_picture_is_written_where_another_one_is(run: Run, tmp_path: Path) -> None:
    """Targets' folders may lie in one another as long as no two files are one."""
    source, out = tmp_path / "in", tmp_path / "out"
    save(source / "x.png")
    save(source / "sub" / "x.png")
    result = run(source, "-o", out, "--compare", out / "sub")
    assert result.code == 1 and f"{out / 'sub' / 'x.png'} would be written twice" in result.err
    assert not out.exists()
    assert run(source, "-o", out, "--report", out / "sub").code == 0
    assert sorted(path.name for path in (out / "sub").iterdir()) == ["sub", "x.png", "x.png.json"]
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "sub").symlink_to(tmp_path / "linked")
    assert "would be written twice" in run(source, "-o", tmp_path / "linked").err


def test_names_that_are_not_utf8(run: Run, tmp_path: Path) -> None:
    """As they are in archives older than UTF-8."""
    name = os.fsdecode(b"z\xe9.png")
    save(tmp_path / "in" / name)
    save(tmp_path / "in" / "a.png")
    manifest = tmp_path / "manifest.jsonl"
    for _ in range(2):
        assert run(tmp_path / "in", "-o", tmp_path / "out", "--manifest", manifest).code == 0
    assert {Path(json.loads(line)["output"]).name for line in manifest.read_text().splitlines()} == {"a.png", name}


def test_a_list_with_a_byte_order_mark(run: Run, tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "list.txt").write_text("a.png\n", "utf-8-sig")
    assert run(tmp_path / "list.txt", "-o", tmp_path / "out").code == 0


def test_a_list_of_names_with_rare_letters(run: Run, tmp_path: Path) -> None:
    """Only a new line ends a name."""
    names = ["a\x85b.png", "c\u2028d.png", "e\x0bf.png"]
    for name in names:
        save(tmp_path / name)
    (tmp_path / "list.txt").write_text("\r\n".join(names), "utf-8", newline="")
    assert run(tmp_path / "list.txt", "-o", tmp_path / "out").code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names


def test_a_folder_that_cannot_be_read(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "in" / "a.png")
    locked = save(tmp_path / "in" / "locked" / "b.png").parent
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path == str(locked):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    result = run(tmp_path / "in", "-o", tmp_path / "out")
    assert (result.code, result.err) == (1, f"honestface: {locked}: Permission denied\n")


def test_the_longest_names(run: Run, tmp_path: Path) -> None:
    """One that has no room for another ending fails alone."""
    save(tmp_path / "in" / ("a" * 251 + ".png"))
    long = save(tmp_path / "in" / ("b" * 251 + ".bmp"))
    result = run(tmp_path / "in", "-o", tmp_path / "out")
    assert result.code == 1 and "1 restored, 0 were finished already, 1 failed" in result.err
    assert f"{long.name}.png: File name too long" in result.err


def test_a_list_of_names_ended_by_zeros(run: Run, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.png\0b.png\0")
    result = run(tmp_path / "list.txt", "-o", tmp_path / "out")
    assert result.code == 1 and "zero bytes" in result.err


def test_what_a_format_cannot_hold_is_told_before_any_work(run: Run, tmp_path: Path) -> None:
    wide = tmp_path / "in" / "wide.webp"
    Image.fromarray(photo((*FACE, ANNA), size=(9000, 360))).save(tmp_path / "wide.webp")
    save(tmp_path / "in" / "a.png")
    (tmp_path / "wide.webp").rename(wide)
    result = run(tmp_path / "in", "-o", tmp_path / "out", "--compare", tmp_path / "sides")
    assert result.code == 1 and "1 restored, 0 were finished already, 1 failed" in result.err
    assert f"{wide}: a webp file holds at most 16383 pixels a side" in result.err


@pytest.mark.parametrize("ending", ["tif", "gif", "webp"])
def test_a_file_of_several_pictures_is_warned_of(run: Run, tmp_path: Path, ending: str) -> None:
    source, manifest = tmp_path / "in", tmp_path / "manifest.jsonl"
    save(source / "one.png")
    pages = [Image.fromarray(photo((*FACE, ANNA))), Image.fromarray(photo())]
    pages[0].save(source / f"two.{ending}", save_all=True, append_images=pages[1:])
    result = run(source, "-o", tmp_path / "out", "--manifest", manifest)
    warning = f"{source / f'two.{ending}'} holds several pictures, as pages or frames: only the first was restored"
    assert result.code == 0 and result.err.splitlines()[0] == f"warning: {warning}"
    assert [json.loads(line)["warnings"] for line in manifest.read_text().splitlines()] == [[], [warning]]
