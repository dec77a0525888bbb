"""Who is on which picture, and who is held out: an index.csv, or a folder per person."""

import csv
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from models.errors import PictureError

PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
INDEX = "index.csv"
#: What an index may say of a file's sharpness, in any case of letters.
_SHARP = {"1": True, "true": True, "0": False, "false": False}

#: File, identity, split and sharpness of a picture.
Row = tuple[str, str, str, bool]


def rows_below(root: Path, held_out_people: int | None = None) -> list[Row]:
    """The pictures below `root` as `training.faces.load_faces` tells them.

    Raises:
        PictureError: no such folder, a damaged index, names that lead out of `root`, or `held_out_people` beside one.
    """
    if not root.is_dir():
        raise PictureError(f"{root} is no folder of face pictures")
    if _has_index(root, held_out_people):
        return [(r["file"], r["identity"], r["split"], _sharp(root, r)) for r in read_index(root, "identity", "hq")]
    return rows_in_folders(root, set(_held_out_folders(root, held_out_people)))


def rows_in_folders(root: Path, held_out: set[str]) -> list[Row]:
    """The pictures in a folder per person, of whom those of `held_out` are `val`; every picture counts as sharp."""
    return [
        (f"{folder}/{path.name}", folder, "val" if folder in held_out else "train", True)
        for folder in people_below(root)
        for path in sorted((root / folder).iterdir())
        if _is_picture(path)
    ]


def people_below(root: Path) -> list[str]:
    """The folders that have pictures and are not hidden, in the order of their names, numbers as numbers."""
    shown = (path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return sorted((path.name for path in shown if any(map(_is_picture, path.iterdir()))), key=_numbers_in_order)


def split_of(root: Path, held_out_people: int | None) -> Callable[[str], str]:
    """Tells the split of a file by its name below `root`: what stands in neither is for training."""
    if _has_index(root, held_out_people):
        splits = {row["file"]: row["split"] for row in read_index(root)}
        return lambda name: splits.get(name, "train")
    held_out = set(_held_out_folders(root, held_out_people))
    return lambda name: "val" if Path(name).parts[0] in held_out else "train"


def read_index(root: Path, *more: str) -> list[dict[str, str]]:
    """The rows of `root/index.csv`, which has the columns file, split and `more`."""
    index = root / INDEX
    try:
        with index.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            rows, columns = list(reader), set(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PictureError(f"{index} cannot be read: {error}") from None
    needed = ("file", "split", *more)
    if missing := [column for column in needed if column not in columns]:
        raise PictureError(f"{index} has no column {', '.join(missing)}")
    for number, row in enumerate(rows, 1):
        if any(row[column] is None for column in needed):
            raise PictureError(f"{index}: picture {number} has too few columns")
        row["file"] = inside(index, row["file"])
    return rows


def write_index(root: Path, rows: Sequence[Row]) -> None:
    """`root/index.csv`, whole or not at all."""
    temporary = root / "index.part.csv"
    with temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "identity", "split", "hq"])
        writer.writerows([file, identity, split, int(sharp)] for file, identity, split, sharp in rows)
    temporary.replace(root / INDEX)


def inside(source: Path, name: str) -> str:
    """A name that `source` gives to a file beside or below it, in one spelling."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise PictureError(f"{source} names {name!r}, which is no file of its folder")
    return path.as_posix()


def _has_index(root: Path, held_out_people: int | None) -> bool:
    index = root / INDEX
    if index.exists() and held_out_people is not None:
        raise PictureError(f"{index} says who is held out: give held_out_people only where there is none")
    return index.exists()


def _sharp(root: Path, row: dict[str, str]) -> bool:
    sharp = _SHARP.get(row["hq"].strip().lower())
    if sharp is None:
        raise PictureError(f"{root / INDEX}: hq of {row['file']} is {row['hq']!r}, must be 1 or 0")
    return sharp


def _held_out_folders(root: Path, held_out_people: int | None) -> list[str]:
    folders = people_below(root)
    return folders[::10] if held_out_people is None else folders[:held_out_people]


def _is_picture(path: Path) -> bool:
    """By its name; what macOS leaves beside a picture, `._a.jpg`, is none."""
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")


def _numbers_in_order(name: str) -> list[tuple[bool, int, str]]:
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", name)]
