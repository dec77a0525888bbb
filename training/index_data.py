"""An index.csv over several folders of people, such as Reface-HQ and CelebRef-HQ, which the paper trains on (4.1)."""

from collections.abc import Mapping
from pathlib import Path

from models.errors import PictureError
from training.face_index import INDEX, Row, people_below, rows_in_folders, write_index


def index_data(root: Path, sources: Mapping[str, str]) -> list[Row]:
    """Writes `root/index.csv` over the folders of `sources`, each with a folder per person, and tells its rows.

    `sources` says by folder name who is held out there: the first so many people, or those that a text file names, a
    line each. "." is `root` itself. One name in two sources is two people.

    Raises:
        PictureError: there is an index, no such folder or file, nobody is held out or left, or a file names strangers.
    """
    if (root / INDEX).exists():
        raise PictureError(f"{root / INDEX} exists: it is not overwritten")
    rows: list[Row] = []
    for source, held_out in sources.items():
        folder = root / source
        if not folder.is_dir() or not folder.resolve().is_relative_to(root.resolve()):
            raise PictureError(f"{folder} is no folder of {root}")
        for file, person, split, sharp in rows_in_folders(folder, _held_out(folder, held_out)):
            rows.append(((Path(source) / file).as_posix(), (Path(source) / person).as_posix(), split, sharp))
    if missing := {"train", "val"} - {split for _, _, split, _ in rows}:
        raise PictureError(f"{root} has no pictures of the {' and the '.join(sorted(missing))} split")
    try:
        write_index(root, rows)
    except OSError as error:
        raise PictureError(f"{root / INDEX}: {error.strerror or error}") from None
    return rows


def _held_out(folder: Path, who: str) -> set[str]:
    people = people_below(folder)
    if who.isdecimal():
        if int(who) > len(people):
            raise PictureError(f"{folder} has {len(people)} people, not {who}")
        return set(people[: int(who)])
    try:
        names = {line.strip() for line in Path(who).read_text(encoding="utf-8").splitlines() if line.strip()}
    except (OSError, UnicodeDecodeError) as error:
        raise PictureError(f"{who} cannot be read: {error}") from None
    if unknown := sorted(names - set(people)):
        raise PictureError(f"{who} names {unknown[0]!r}, of whom {folder} has no pictures")
    return names
