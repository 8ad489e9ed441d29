"""Where what `inferoxy infer` makes is written.

Invariants: no two inputs share a file, and no input is written over.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from inferoxy.cli.infer.inputs import PICTURES, VIDEOS, Input, Kind, shown
from inferoxy.errors import InvalidRequest

Encoding = Literal["jpeg", "png"]
ENCODINGS: dict[str, Encoding] = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}
MOVIE = ".mp4"
_SUFFIX = dict(zip(get_args(Encoding), (".jpg", ".png"), strict=True))


def folder_of(save: str | None) -> Path | None:
    """The folder that --save names; None where it names a file, or is not given."""
    if save is None:
        return None
    return Path(save) if save.endswith(os.sep) or os.path.isdir(save) or not Path(save).suffix else None


def targets_for(inputs: Sequence[Input], save: str | None, encoding: Encoding = "jpeg") -> list[Path]:
    """The file of each input's drawing; empty where none are wanted.

    In a folder a file keeps its path below the deepest folder that all of the named PATHs share, and gets the suffix of
    what is written; where two would be the same the later one gets a number.

    Args:
        inputs: What is asked about.
        save: A folder, which need not exist, or a file for a single input.
        encoding: Of pictures in a folder.

    Raises:
        InvalidRequest: A file for several inputs, a name of another kind of file, or an input would be written over.
    """
    if save is None:
        return []
    folder = folder_of(save)
    targets = [_single(inputs, Path(save))] if folder is None else _in_folder(inputs, folder, _SUFFIX[encoding])
    _keep_inputs("--save", inputs, targets)
    return targets


def encoding_for(targets: Sequence[Path]) -> Encoding | Literal[""]:
    """The encoding that the server is to draw in; the frames of a movie come as JPEG."""
    return ENCODINGS.get(targets[0].suffix.lower(), "jpeg") if targets else ""


def check_is_file_name(option: str, file: str | None) -> None:
    """Refuse what is another option, where the name of a file of results was forgotten.

    Raises:
        InvalidRequest: It begins with a dash.
    """
    if file is not None and file != "-" and file.startswith("-"):
        raise InvalidRequest(f"{option}: expected a file name, or - for standard output, found {file}")


def check_results_file(option: str, file: str | None, inputs: Sequence[Input]) -> None:
    """Refuse a file of results that was probably meant to be an input.

    Raises:
        InvalidRequest: It is an input, has a picture's or video's name, or cannot be made.
    """
    if file is None or file == "-":
        return
    if file.lower().endswith(PICTURES + VIDEOS):
        raise InvalidRequest(f"{option}: expected a file for results, or - for standard output, found {shown(file)}")
    _keep_inputs(option, inputs, [Path(file)])
    if os.path.isdir(file):
        raise InvalidRequest(f"{option}: {shown(file)} is a folder")
    check_parent(option, Path(file))


def check_parent(option: str, file: Path) -> None:
    """Refuse a file whose folder does not exist.

    Raises:
        InvalidRequest: It does not.
    """
    if not file.absolute().parent.is_dir():
        raise InvalidRequest(f"{option}: there is no folder {shown(file.absolute().parent)}")


def _single(inputs: Sequence[Input], file: Path) -> Path:
    if len(inputs) > 1:
        raise InvalidRequest(f"--save: expected a folder for {len(inputs)} inputs, found the file name {shown(file)}")
    wanted = (MOVIE,) if inputs[0].kind is Kind.VIDEO else tuple(ENCODINGS)
    if file.suffix.lower() not in wanted:
        what = "a video" if inputs[0].kind is Kind.VIDEO else "a picture"
        raise InvalidRequest(
            f"--save: expected a name ending in {', '.join(wanted)} for {what}, or a folder, found {shown(file)}"
        )
    check_parent("--save", file)
    return file


def _in_folder(inputs: Sequence[Input], folder: Path, suffix: str) -> list[Path]:
    if folder.exists() and not folder.is_dir():
        raise InvalidRequest(f"--save: expected a folder, found the file {shown(folder)}")
    roots = {one.root for one in inputs if one.kind is not Kind.STDIN}
    base = os.path.commonpath(roots) if roots else ""
    wishes = [folder / _relative(one, base, suffix) for one in inputs]
    taken = set(wishes)
    counts: dict[Path, int] = {}
    targets = []
    for wish in wishes:
        target, count = wish, counts.get(wish, 0) + 1
        while count > 1 and target in taken:
            target = wish.with_name(f"{wish.stem}-{count}{wish.suffix}")
            count += target in taken
        counts[wish] = count
        taken.add(target)
        targets.append(target)
    return targets


def _relative(one: Input, base: str, suffix: str) -> Path:
    if one.kind is Kind.STDIN:
        return Path(f"stdin{suffix}")
    place = Path(os.path.relpath(os.path.abspath(one.path), base))
    ending = MOVIE if one.kind is Kind.VIDEO else suffix
    is_known = place.name.lower().endswith(PICTURES + VIDEOS)
    return place.with_suffix(ending) if is_known else place.with_name(place.name + ending)


def _keep_inputs(option: str, inputs: Sequence[Input], targets: Sequence[Path]) -> None:
    used = {os.path.realpath(one.path): one for one in inputs if one.kind is not Kind.STDIN}
    for target in targets:
        one = used.get(os.path.realpath(target))
        if one is not None:
            raise InvalidRequest(
                f"{option}: {shown(target)} is an input, which would be written over; name another place"
            )
