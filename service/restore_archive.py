"""An archive of pictures restored one after the other or by many: what there is to do, what became of it, progress."""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import IO, Literal, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from models.errors import HonestFaceError, PictureError
from service.restore_files import PICTURE_SUFFIXES, WRITTEN, FileRestorer, Targets, one_line, read_picture

#: What disks keep at their root: nobody's pictures, and often not readable.
SYSTEM_FOLDERS = {"lost+found", "$RECYCLE.BIN", "System Volume Information"}


class Entry(NamedTuple):
    """A picture of an archive, and where below the targets' folders its own go. Strings: there may be a million."""

    photo: str
    inside: str


class Plan(NamedTuple):
    """What there is to restore, and how many other files a folder holds."""

    entries: list[Entry]
    left_out: int = 0


@dataclass(frozen=True)
class Result:
    """What became of a picture: a line of the manifest.

    `restored`; `present`: its output was there before this run, and no line tells how it came there; or `failed`, with
    the `error` in one line. `seconds` is the time from reading it to writing its output, `model` what restored it.
    """

    input: str
    output: str
    status: Literal["restored", "present", "failed"]
    faces: int | None = None
    seconds: float | None = None
    error: str | None = None
    warnings: tuple[str, ...] = ()
    model: Mapping[str, str] | None = None

    def line(self) -> str:
        # In ASCII: names in an old archive may hold bytes that are not UTF-8, which only an escape brings back.
        return json.dumps(asdict(self))


def plan_folder(folder: Path, targets: Targets) -> Plan:
    """Every picture below a folder, under the same name below the targets' folders.

    A format that is not written gets .png behind its own ending. What bears the ending of a format that is not read is
    a picture as well: it will fail. Other files are counted. Hidden ones, what a file system keeps for itself and the
    targets' own folders, should they lie inside, are not.

    Raises:
        PictureError: a folder cannot be read or none holds pictures, or two would be written to the same file.
    """
    own = {os.path.realpath(path) for path in targets.given}
    plan, left_out = [], 0
    try:
        for parent, folders, names in os.walk(folder, onerror=_raise):
            here = Path(parent)
            folders[:] = [
                name
                for name in folders
                if not name.startswith(".") and name not in SYSTEM_FOLDERS and os.path.realpath(here / name) not in own
            ]
            for name in names:
                path = here / name
                if name.startswith("."):
                    continue
                if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file():
                    plan.append(Entry(str(path), _written(str(path.relative_to(folder)))))
                else:
                    left_out += 1
    except OSError as error:
        raise PictureError(f"{error.filename}: {error.strerror}") from error
    if not plan:
        raise PictureError(f"{folder}: no pictures in this folder")
    return Plan(_without_clashes(sorted(plan), targets), left_out)


def _raise(error: OSError) -> None:
    raise error


def plan_list(listing: Path, targets: Targets) -> Plan:
    """The pictures that a text file names, one a line; a relative name counts from the list's own folder.

    What lies below that folder keeps its place below the targets' folders, anything else its whole path.

    Raises:
        PictureError: the list cannot be read or is empty, or two pictures would be written to the same file.
    """
    try:
        lines = listing.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise PictureError(f"{listing}: the list cannot be read: {error}") from error
    if any("\0" in line for line in lines):
        raise PictureError(f"{listing}: it has names ended by zero bytes; write one a line")
    base = os.path.abspath(listing.parent)
    plan = {}
    for line in filter(None, (line.strip() for line in lines)):
        whole = os.path.normpath(os.path.join(base, line))
        inside = os.path.relpath(whole, base if whole.startswith(base + os.sep) else os.sep)
        plan[whole] = Entry(os.path.join(listing.parent, line), _written(inside))
    if not plan:
        raise PictureError(f"{listing}: no pictures in this list")
    return Plan(_without_clashes(list(plan.values()), targets))


def _written(inside: str) -> str:
    return inside if os.path.splitext(inside)[1].lower() in WRITTEN else inside + ".png"


def _without_clashes(plan: list[Entry], targets: Targets) -> list[Entry]:
    writers: dict[str, str] = {}
    for entry in plan:
        if (other := writers.setdefault(entry.inside, entry.photo)) != entry.photo:
            output = targets.below(entry.inside).output
            raise PictureError(f"{other} and {entry.photo} would both be written to {output}: rename one")
    return plan


def check_overwritten(plan: Sequence[Entry], targets: Targets, references: Iterable[Path]) -> None:
    """Raises PictureError where a picture's target is a picture of the plan, a reference, or another target."""
    real = cache(os.path.realpath)

    def place(path: str) -> str:
        """The file that is replaced by writing this name: links to its folder are followed, itself it may be one."""
        folder, name = os.path.split(path)
        return os.path.join(real(folder), name)

    inputs = {place(path) for path in (*(entry.photo for entry in plan), *map(str, references))}
    inputs |= {os.path.realpath(path) for path in inputs if os.path.islink(path)}
    parents = {os.path.dirname(entry.inside) for entry in plan}
    folders = [os.path.realpath(path / parent) for path in targets.given for parent in parents]
    if len(set(folders)) == len(folders) and {os.path.dirname(path) for path in inputs}.isdisjoint(folders):
        return  # as in nearly every run; a million pictures have three million targets
    written: set[str] = set()
    for entry in plan:
        for path in targets.below(entry.inside).given:
            file = place(str(path))
            if file in inputs:
                raise PictureError(f"{path} would overwrite an input: name another folder")
            if file in written:
                raise PictureError(f"{path} would be written twice: name another folder")
            written.add(file)


def restore_each(files: FileRestorer, targets: Targets, plan: Iterable[Entry]) -> Iterator[Result]:
    """Restores pictures in their order, in this process; what fails is told in its result and stops nothing."""
    for entry in plan:
        photo, own, started = Path(entry.photo), targets.below(entry.inside), time.perf_counter()
        try:
            done = files.restore(photo, read_picture(photo, files.options.upscale), own)
        except Exception as error:  # whatever a picture brings about, the others are still to be restored
            yield Result(entry.photo, str(own.output), "failed", error=one_line(photo, error))
        else:
            seconds = round(time.perf_counter() - started, 3)
            yield Result(
                entry.photo, str(own.output), "restored", done.faces, seconds, None, done.warnings, files.model
            )


#: As the line of every result begins.
_BEGINNING = b'{"input": "'


class Manifest:
    """A file of results as lines of JSON, in the order in which they came; a picture's last line counts.

    It is added to by every run; `told` are the outputs of which a line says how they were restored. A last line that an
    interrupted run left unfinished is ended, or cut off where it lacks more than its end.

    Raises:
        ValueError, KeyError, TypeError: the file holds something else; it is left as it is.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.told: set[str] = set()
        self._path = path
        self._file: IO[bytes] = path.open("a+b")
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def _read(self) -> None:
        end, line = self._file.seek(0), b"\n"
        for line in self._file:
            ended = line.endswith(b"\n")
            if not (ended or line.startswith(_BEGINNING) or _BEGINNING.startswith(line)):
                raise ValueError("it ends in something else than a result")
            try:
                fields = json.loads(line)
            except ValueError:
                if ended:
                    raise
                self._file.truncate(end)
                return
            if fields["status"] == "restored":
                self.told.add(fields["output"])
            end += len(line)
        if not line.endswith(b"\n"):
            self._write(b"\n")

    def add(self, result: Result) -> None:
        """Adds a line.

        Raises:
            HonestFaceError: it cannot be written.
        """
        try:
            self._write(result.line().encode() + b"\n")
        except OSError as error:
            with suppress(OSError):  # what is left of the line is given up
                self.close()
            raise HonestFaceError(f"{self._path}: {error.strerror}") from error

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        # To the system with every line: it outlives this process, whatever ends it.
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def restore_archive(
    plan: Plan,
    targets: Targets,
    restore: Callable[[Sequence[Entry]], Iterator[Result]],
    manifest_path: Path | None,
) -> int:
    """Works through what a plan still lacks under a progress bar, and tells at the end; how many pictures failed.

    Raises:
        HonestFaceError: the manifest cannot be written, or the workers cannot go on.
        KeyboardInterrupt: it was interrupted. Of these two it first tells what became of the pictures so far.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        manifest = Manifest(manifest_path) if manifest_path else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HonestFaceError(f"{manifest_path}: this manifest cannot be gone on with: {error}") from error
    left: list[Entry] = []
    for entry in plan.entries:
        wanted = targets.below(entry.inside)
        if not all(map(os.path.exists, wanted.given)):  # nor where that cannot be told: writing will say why
            left.append(entry)
        elif manifest and str(wanted.output) not in manifest.told:
            manifest.add(Result(entry.photo, str(wanted.output), "present"))
    failures: list[str] = []
    restored = 0
    ended: BaseException | None = None
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    try:
        # Elsewhere than on a terminal all that it would show is a blank line.
        with Progress(*columns, console=console, transient=True, disable=not console.is_interactive) as progress:
            task = progress.add_task("restoring", total=len(left))
            for result in restore(left) if left else ():
                restored += result.status == "restored"
                if result.error is not None:
                    failures.append(result.error)
                if manifest:
                    manifest.add(result)
                for warning in result.warnings:
                    console.print(f"warning: {warning}", markup=False)
                progress.advance(task)
    except (KeyboardInterrupt, HonestFaceError) as error:
        ended = error
    if manifest:
        manifest.close()
    finished = len(plan.entries) - len(left)
    others = f"; {_other_files(plan.left_out)} left out" if plan.left_out else ""
    console.print(f"{restored} restored, {finished} were finished already, {len(failures)} failed{others}")
    for failure in sorted(failures):
        console.print(failure, markup=False)
    if ended is not None:
        console.print("interrupted: run it again to go on")
        raise ended
    return len(failures)


def _other_files(count: int) -> str:
    return "1 other file was" if count == 1 else f"{count} other files were"
