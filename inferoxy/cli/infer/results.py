"""Files of results: a JSON line for each picture or frame, a CSV row for each object.

Written as answers come, each line at once, so that whatever stops the command leaves whole lines. docs/cli.md describes
both formats for readers.
"""

import csv
import json
import math
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Self

from inferoxy.cli.infer.inputs import Input, shown
from inferoxy.errors import InferoxyError, InvalidRequest

if TYPE_CHECKING:
    from inferoxy.cli.infer.video import Frame
    from inferoxy.client import Detections, Prediction

STDOUT = "-"
COLUMNS = (
    "path", "frame", "time_s", "class_id", "class_name", "confidence", "x1", "y1", "x2", "y2", "track_id",
)  # fmt: skip
TRACKS = "track_id"  # the key under which a model's prediction has a number for each object
UNREADABLE = "UNREADABLE"  # the code of a file that cannot be read, which no server knows


class Outcome(NamedTuple):
    """What became of one picture or frame: either `answer` or `error` is None."""

    input: Input
    frame: "Frame | None"
    answer: "Detections | Prediction | None"
    error: InferoxyError | OSError | None


class ResultFiles:
    """The files that were asked for; use it in a `with` block.

    Args:
        json_file: For JSON lines; "-": standard output; None: not wanted.
        csv_file: For CSV, likewise.

    Raises:
        InferoxyError: One cannot be made.
    """

    def __init__(self, json_file: str | None, csv_file: str | None) -> None:
        self._closing = ExitStack()
        with ExitStack() as undo:
            undo.callback(self._closing.close)
            self._json = self._open(json_file)
            self._csv = self._open(csv_file)
            undo.pop_all()
        self._rows = csv.writer(self._csv) if self._csv else None  # CRLF and quotes as RFC 4180 has them
        self.names = [shown(file) for file in (json_file, csv_file) if file not in (None, STDOUT)]
        if self._rows is not None:
            self._rows.writerow(COLUMNS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._closing.close()

    def write(self, outcome: Outcome, saved: Path | None = None) -> None:
        """Add what became of a picture or frame.

        Args:
            outcome: What became of it.
            saved: The file of its drawing.

        Raises:
            InvalidRequest: The prediction has no boxes, and CSV was asked for.
        """
        if self._json is not None:
            self._json.write(json_line(record_of(outcome, saved)))
            self._json.flush()
        if self._rows is not None and self._csv is not None and outcome.answer is not None:
            self._rows.writerows(rows_of(outcome))
            self._csv.flush()

    def _open(self, file: str | None) -> IO[str] | None:
        if file is None:
            return None
        if file == STDOUT:
            # Its own buffer: what Python's would make of line ends and of odd file names differs between systems.
            opened = open(sys.stdout.fileno(), "w", encoding="utf-8", newline="", closefd=False)  # noqa: SIM115
        else:
            try:
                opened = open(file, "w", encoding="utf-8", newline="")  # noqa: SIM115
            except OSError as exc:
                raise InferoxyError(f"{shown(file)}: cannot be written: {(exc.strerror or str(exc)).lower()}") from exc
        return self._closing.enter_context(opened)


def record_of(outcome: Outcome, saved: Path | None = None) -> dict[str, Any]:
    """One picture or frame as it stands in a JSON line."""
    record: dict[str, Any] = {"path": outcome.input.name}
    if outcome.frame is not None:
        record |= {"frame": outcome.frame.number, "time_s": outcome.frame.time_s}
    answer = outcome.answer
    if answer is None:
        code = outcome.error.code.value if isinstance(outcome.error, InferoxyError) else UNREADABLE
        return record | {"error": reason_of(outcome.error), "code": code}
    record |= answer.to_dict()
    if answer.parts:
        record["parts"] = [part.value for part in answer.parts]
    return record | {"saved": shown(saved)} if saved else record


def rows_of(outcome: Outcome) -> list[list[Any]]:
    """One row of COLUMNS for each object of an answer.

    Raises:
        InvalidRequest: The answer has no boxes.
    """
    from inferoxy.client import Detections

    answer, frame = outcome.answer, outcome.frame
    if not isinstance(answer, Detections):
        keys = ", ".join(map(str, answer.value)) if answer is not None else ""
        raise InvalidRequest(f"--csv: expected a prediction with boxes, found {keys or 'nothing'}; use --json")
    about = [outcome.input.name, *((frame.number, frame.time_s) if frame is not None else ("", ""))]
    found = answer.value
    tracks = tracks_of(answer)
    return [
        [*about, class_id, name, confidence, *box, track]
        for class_id, name, confidence, box, track in zip(
            found["class_id"], found["class_name"], found["confidence"], found["boxes"], tracks, strict=True
        )
    ]


def tracks_of(answer: "Detections") -> list[Any]:
    """The number of each object's track; empty texts where the model follows nothing."""
    tracks = answer.extra.get(TRACKS)
    if isinstance(tracks, list) and len(tracks) == len(answer):
        return ["" if track is None else track for track in tracks]
    return [""] * len(answer)


def json_line(record: dict[str, Any]) -> str:
    """A record as one line; numbers that JSON does not have as null."""
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError:
        return json.dumps(_finite(record), ensure_ascii=False, allow_nan=False) + "\n"


def reason_of(error: InferoxyError | OSError | None) -> str:
    """A failure in one sentence, without the name of the file."""
    if isinstance(error, InferoxyError):
        return error.message
    return (error.strerror or str(error)).lower() if error is not None else ""


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
