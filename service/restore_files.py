"""Restoring picture files, each with what is written for it."""

import json
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from models.choices import PictureFormat
from models.errors import HonestFaceError, PictureError, TooReducedError
from models.face_restorer import FaceRestorer, Options, Restoration
from models.picture import Picture, PictureLimits, check_enlarged, check_side, decode, encode
from models.references import Reference
from models.restoration_mark import restoration_mark

_READ = {".jpg", ".jpeg", ".jpe", ".jif", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif"}
_CAMERA_RAW = {".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef"}
#: Of pictures, also of such as are not read: no photograph of a folder is left out in silence.
PICTURE_SUFFIXES = frozenset({*_READ, *_CAMERA_RAW, ".heic", ".heif", ".hif", ".jp2", ".jxl"})
#: Scans from an archive are large files; the limit on pixels stays.
LIMITS = PictureLimits(bytes=2**30)
WRITTEN: dict[str, PictureFormat] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


@dataclass(frozen=True)
class Targets:
    """What is written for a picture: the restored one and, if wanted, its honesty report and before beside after."""

    output: Path
    report: Path | None = None
    compare: Path | None = None

    @property
    def given(self) -> list[Path]:
        return [path for path in (self.output, self.report, self.compare) if path is not None]

    def below(self, inside: str) -> "Targets":
        """Where folders are targets: those of the picture that has this name in them; a report's ends in .json."""
        report = self.report and self.report / (inside + ".json")
        return Targets(self.output / inside, report, self.compare and self.compare / inside)

    def complaint(self, photo: Path, references: Sequence[Path]) -> str | None:
        """Why these names will not do for a photo, or for a folder or list of them, in one line; None if they will."""
        given = self.given
        if is_archive(photo):
            clash = next((path for path in given if path.is_file()), None)
            if clash:
                return f"{clash} is a file: for a folder or list of pictures name a folder"
        else:
            for path in given:
                if path.is_dir():
                    return f"{path} is a folder: name the file to write"
            for picture in (self.output, self.compare):
                if picture is not None and picture.suffix.lower() not in WRITTEN:
                    return f"{picture}: the name must end in {', '.join(WRITTEN)}"
        inputs = {os.path.realpath(path) for path in (photo, *references)}
        if clash := next((path for path in given if os.path.realpath(path) in inputs), None):
            return f"{clash} would overwrite an input"
        if len({os.path.realpath(path) for path in given}) < len(given):
            return "output, report and compare need different names"
        return None


def is_archive(photo: Path) -> bool:
    """Whether this is many pictures: a folder of them, or a text file that lists them."""
    return photo.is_dir() or photo.suffix.lower() == ".txt"


@dataclass(frozen=True)
class Done:
    """What to tell about a finished picture."""

    faces: int
    seconds: float
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class FileRestorer:
    """Restores files with one set of references; `names` are the references' own, `model` is told with each result."""

    restorer: FaceRestorer
    references: Sequence[Reference]
    names: Sequence[str]
    options: Options
    model: Mapping[str, str]

    def restore(self, photo: Path, picture: Picture, targets: Targets) -> Done:
        """Restores a picture and writes its targets, the output last: where it stands, all is done.

        Raises:
            HonestFaceError: naming the photo, if its face cannot be restored.
            OSError: a target cannot be written.
        """
        started = time.perf_counter()
        try:
            self._check_sides(picture, targets)
            restoration = self.restorer.restore(picture, self.references, self.options)
        except HonestFaceError as error:
            raise type(error)(f"{photo}: {error}") from error
        if targets.report:
            document = json.dumps(self._document(photo, targets.output, restoration), indent=2, allow_nan=False)
            write_whole(targets.report, document.encode() + b"\n")
        mark = restoration_mark(self.model["profile"], self.model["version"])
        if targets.compare:
            both = _side_by_side(picture.enlarged(self.options.upscale), restoration.picture)
            write_picture(targets.compare, Picture(both), mark)
        write_picture(targets.output, restoration.picture, mark)
        seconds = time.perf_counter() - started
        return Done(len(restoration.faces), seconds, self._warnings(photo, restoration))

    def _check_sides(self, picture: Picture, targets: Targets) -> None:
        """Raises PictureTooLargeError where a target's format cannot hold what would be written."""
        width, height = picture.width * self.options.upscale, picture.height * self.options.upscale
        check_side(WRITTEN[targets.output.suffix.lower()], max(width, height))
        if targets.compare:
            check_side(WRITTEN[targets.compare.suffix.lower()], max(2 * width + _gap(width), height))

    def _document(self, photo: Path, output: Path, restoration: Restoration) -> dict[str, object]:
        return {
            "photo": str(photo),
            "output": str(output),
            "model": dict(self.model),
            "references": list(self.names),
            "options": asdict(self.options),
            "faces": [
                {"box": [round(edge, 1) for edge in face.face.box], "report": face.report and face.report.full()}
                for face in restoration.faces
            ],
        }

    def _warnings(self, photo: Path, restoration: Restoration) -> tuple[str, ...]:
        found = []
        if restoration.picture.first_of_several:
            found.append(f"{photo} holds several pictures, as pages or frames: only the first was restored")
        if restoration.picture.generated:
            found.append(generated_warning(photo))
        return *found, *(
            f"{name} seems to show another person than {photo} "
            f"({evidence.angle_to_input:.0f} degrees apart, up to {report.matching_angle:.0f} match)"
            for report in restoration.reports
            for name, evidence in zip(self.names, report.references, strict=False)
            if evidence.wrong_person
        )


def generated_warning(path: Path) -> str:
    """What to tell about a picture that says of itself that it was not only photographed."""
    return f"{path} says that a trained model made it or part of it: its faces may be guesses"


def prepare_references(restorer: FaceRestorer, paths: Sequence[Path], pictures: Sequence[Picture]) -> list[Reference]:
    """The references in pictures of these paths; where one was read too small for its face, it is read in full.

    Raises:
        HonestFaceError: naming the file; it shows no face, or the bundle takes no references.
    """
    references = []
    for path, picture in zip(paths, pictures, strict=True):
        try:
            references += restorer.prepare_references([picture], [str(path)])
        except TooReducedError:
            references += restorer.prepare_references([read_picture(path)], [str(path)])
    return references


def read_picture(path: Path, upscale: int = 1, least_side: int | None = None) -> Picture:
    """Reads a picture file that is to be given back `upscale` times as large; `least_side` is `decode`'s.

    Raises:
        PictureError: naming the file; it is missing, no picture that can be read, or would be too large.
    """
    try:
        data = path.read_bytes()
        if path.suffix.lower() in _CAMERA_RAW:  # most are TIFFs whose first picture is a small preview
            raise PictureError("a camera raw file is not read: save it as TIFF, PNG or JPEG")
        picture = decode(data, LIMITS, least_side)
        check_enlarged(picture.width, picture.height, upscale, LIMITS)
        return picture
    except OSError as error:
        raise PictureError(f"{path}: {error.strerror or error}") from error
    except PictureError as error:
        raise type(error)(f"{path}: {error}") from error


def write_picture(path: Path, picture: Picture, xmp: bytes) -> None:
    """Writes a picture with metadata in the format that its name ends in, whole or not at all."""
    write_whole(path, encode(picture.pixels, picture.alpha, WRITTEN[path.suffix.lower()], xmp=xmp))


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all: under another name first, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without the file's own name, which may be as long as names can be.
    unfinished = path.with_name(f".{os.getpid()}.{uuid.uuid4().hex}.part")
    try:
        with unfinished.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(path)
    except OSError as error:
        error.filename = str(path)  # who reads of it knows no other name
        raise
    finally:
        unfinished.unlink(missing_ok=True)


def one_line(photo: Path, error: BaseException) -> str:
    """What went wrong with a photo, in one line that names the file."""
    if isinstance(error, HonestFaceError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or photo}: {error.strerror or error}"
    return f"{photo}: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _gap(width: int) -> int:
    return max(4, width // 100)


def _side_by_side(before: Picture, after: Picture) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    gap = np.full((before.height, _gap(before.width), 3), 255, np.uint8)
    return np.hstack([before.pixels, gap, after.pixels])
