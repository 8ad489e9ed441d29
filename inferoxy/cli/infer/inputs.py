"""Which pictures and videos the PATHs of a command line name.

Reads folders, never a picture. A folder means the pictures in it and in its folders; hidden files are left out, links
to folders are not followed. Order: as named; within a folder or a pattern by name, numbers by their value.
"""

import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from inferoxy.errors import InvalidRequest

PICTURES = (".jpg", ".jpeg", ".png", ".webp")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm")
STDIN = "-"
_NUMBERS = re.compile(r"(\d+)")


class Kind(Enum):
    """What an input is."""

    PICTURE = "picture"
    VIDEO = "video"
    STDIN = "standard input"


class Input(NamedTuple):
    """One picture or video.

    `root` is the absolute folder that belongs to the PATH which named it: the folder itself, the part of a pattern
    before its first wildcard, the file's folder.
    """

    path: Path
    kind: Kind
    root: Path

    @property
    def name(self) -> str:
        """Its path for people and files of results; bytes that are not UTF-8 as escapes."""
        return shown(self.path)


def shown(path: str | os.PathLike[str]) -> str:
    """A path as text that every output can hold."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def find_inputs(paths: Sequence[str], leave_out: Path | None = None) -> list[Input]:
    """The pictures and videos that PATHs name.

    Args:
        paths: Files, folders, patterns, or STDIN for a picture on standard input.
        leave_out: A folder whose pictures are not taken where a folder or pattern would find them: that of the results.

    Raises:
        InvalidRequest: One does not exist, cannot be read or holds nothing; or STDIN is named twice or is a terminal.
    """
    if paths.count(STDIN) > 1:
        raise InvalidRequest(f"PATH: expected - once, found it {paths.count(STDIN)} times")
    skipped = None if leave_out is None else os.path.realpath(leave_out)
    return [found for path in paths for found in _named_by(path, skipped)]


def natural(path: Path) -> list[list[str | int]]:
    """A sort key by which frame 9 comes before frame 10."""
    return [[int(word) if word.isdecimal() else word for word in _NUMBERS.split(part)] for part in path.parts]


def _named_by(path: str, skipped: str | None) -> Iterable[Input]:
    if path == STDIN:
        if sys.stdin is None or sys.stdin.isatty():
            raise InvalidRequest("-: expected a picture on standard input, found a terminal")
        return [Input(Path(STDIN), Kind.STDIN, Path.cwd())]
    if os.path.isdir(path):
        return _in_folder(Path(path), skipped)
    if os.path.exists(path):
        if not os.access(path, os.R_OK):
            raise InvalidRequest(f"{shown(path)}: permission denied")
        return [Input(Path(path), _kind(path), Path(os.path.abspath(path)).parent)]
    if glob.has_magic(path):
        return _matching(path, skipped)
    why = "is a link to nothing" if os.path.islink(path) else "no such file or directory"
    raise InvalidRequest(f"{shown(path)}: {why}")


def _in_folder(folder: Path, skipped: str | None) -> list[Input]:
    files = sorted(_walk(folder, skipped), key=natural)
    root = Path(os.path.abspath(folder))
    pictures = [Input(file, Kind.PICTURE, root) for file in files if _has(file, PICTURES)]
    if pictures:
        return pictures
    message = f"{shown(folder)}: expected pictures ({', '.join(PICTURES)}) in it, found none"
    videos = [file for file in files if _has(file, VIDEOS)]
    if videos:
        pattern = shown(videos[0].parent / f"*{videos[0].suffix}")
        message += f"; it holds videos, which are to be named, as in '{pattern}'"
    raise InvalidRequest(message)


def _walk(folder: Path, skipped: str | None) -> Iterator[Path]:
    for place, folders, names in os.walk(folder, onerror=_unreadable):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and (skipped is None or os.path.realpath(os.path.join(place, name)) != skipped)
        ]
        yield from (Path(place, name) for name in names if not name.startswith("."))


def _unreadable(exc: OSError) -> None:
    raise InvalidRequest(f"{shown(exc.filename)}: {(exc.strerror or str(exc)).lower()}") from exc


def _matching(pattern: str, skipped: str | None) -> list[Input]:
    fixed = Path()
    for part in Path(pattern).parts:
        if glob.has_magic(part):
            break
        fixed /= part
    root = Path(os.path.abspath(fixed))
    found = [Path(match) for match in glob.iglob(pattern, recursive=True) if os.path.isfile(match)]
    wanted = [
        Input(file, _kind(str(file)), root)
        for file in sorted(found, key=natural)
        if _has(file, PICTURES + VIDEOS) and not _is_below(file, skipped)
    ]
    if not wanted:
        count = f"{len(found)} other files" if found else "nothing"
        raise InvalidRequest(f"{shown(pattern)}: expected pictures or videos that match it, found {count}")
    return wanted


def _is_below(file: Path, folder: str | None) -> bool:
    return folder is not None and os.path.realpath(file).startswith(folder + os.sep)


def _kind(path: str) -> Kind:
    return Kind.VIDEO if path.lower().endswith(VIDEOS) else Kind.PICTURE


def _has(file: Path, suffixes: tuple[str, ...]) -> bool:
    return file.name.lower().endswith(suffixes)
