"""Files of results: JSON lines and CSV."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inferoxy.cli.infer.inputs import Input, Kind
from inferoxy.cli.infer.results import COLUMNS, Outcome, ResultFiles, json_line, record_of, rows_of
from inferoxy.cli.infer.video import Frame
from inferoxy.client.results import Prediction, Size, answer_from, last_prediction
from inferoxy.errors import InferoxyError, InvalidRequest, ModelError

FOUND: dict[str, Any] = {
    "boxes": [[1.5, 2.0, 30.1, 40.25], [5.0, 6.0, 7.0, 8.0]],
    "confidence": [0.9, 0.5],
    "class_id": [2, 0],
    "class_name": ['a "big", star', "Kreis ß"],
    "track_id": [7, None],
}
FRAME = Frame(12, 0.48, np.zeros((2, 2, 3), np.uint8))


def one(name: str = "clips/a, b.mp4") -> Input:
    return Input(Path(name), Kind.VIDEO, Path("/"))


def answered(prediction: Any = None, frame: Frame | None = FRAME) -> Outcome:
    answer = answer_from(prediction or FOUND, model="m", version="1", request_id="r", image_size=Size(3, 2))
    return Outcome(one(), frame, answer, None)


def test_rows_read_back_as_rfc_4180_has_them(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    with ResultFiles(None, str(file)) as files:
        files.write(answered())
        files.write(Outcome(one(), FRAME, None, ModelError("told elsewhere")))
        files.write(answered(frame=None))
    raw = file.read_bytes().decode("utf-8")
    assert raw.startswith(",".join(COLUMNS) + "\r\n")
    assert '"clips/a, b.mp4",12,0.48,2,"a ""big"", star",0.9,1.5,2.0,30.1,40.25,7\r\n' in raw
    rows = list(csv.DictReader(io.StringIO(raw, newline="")))
    assert [row["class_name"] for row in rows] == FOUND["class_name"] * 2
    assert [row["track_id"] for row in rows] == ["7", ""] * 2
    assert [row["frame"] for row in rows] == ["12", "12", "", ""]
    assert [[float(row[edge]) for edge in ("x1", "y1", "x2", "y2")] for row in rows[:2]] == FOUND["boxes"]


def test_a_prediction_without_boxes_is_no_row() -> None:
    with pytest.raises(InvalidRequest, match="--csv: expected a prediction with boxes, found mean, shape; use --json"):
        rows_of(answered({"mean": 1, "shape": 2}))


def test_a_line_has_the_whole_answer_and_where_it_was() -> None:
    record = json.loads(json_line(record_of(answered(), Path("out/a.jpg"))))
    assert record["prediction"] == FOUND
    assert (record["path"], record["frame"], record["time_s"]) == ("clips/a, b.mp4", 12, 0.48)
    assert (record["model"], record["version"], record["image"]) == ("m", "1", {"width": 3, "height": 2})
    assert record["saved"] == "out/a.jpg"
    assert "frame" not in record_of(answered(frame=None))


def test_a_failure_is_a_line_with_its_code() -> None:
    failed = Outcome(one(), FRAME, None, ModelError("no"))
    assert record_of(failed) == {
        "path": "clips/a, b.mp4", "frame": 12, "time_s": 0.48, "error": "no", "code": "MODEL_ERROR",
    }  # fmt: skip
    unread = Outcome(one(), None, None, PermissionError(13, "Permission denied"))
    assert record_of(unread) == {"path": "clips/a, b.mp4", "error": "permission denied", "code": "UNREADABLE"}


def test_all_answers_of_a_model_that_answers_several_times_are_in_the_line() -> None:
    parts = [Prediction(value={"step": step}) for step in (1, 2)]
    record = record_of(Outcome(one(), None, last_prediction(parts), None))
    assert (record["prediction"], record["parts"]) == ({"step": 2}, [{"step": 1}, {"step": 2}])


def test_numbers_that_json_does_not_have_are_null_and_a_line_is_one_line() -> None:
    line = json_line({"a": [float("nan"), {"b": float("-inf")}], "c": "ä\n\u2028", "d": 2**70})
    assert line.count("\n") == 1
    assert json.loads(line) == {"a": [None, {"b": None}], "c": "ä\n\u2028", "d": 2**70}


def test_lines_are_there_as_soon_as_they_are_written(tmp_path: Path) -> None:
    lines, rows = tmp_path / "x.jsonl", tmp_path / "x.csv"
    with ResultFiles(str(lines), str(rows)) as files:
        assert files.names == [str(lines), str(rows)]
        for count in (1, 2, 3):
            files.write(answered())
            assert len(lines.read_text().splitlines()) == count
            assert len(list(csv.reader(rows.read_text().splitlines()))) == 1 + 2 * count


def test_a_file_that_cannot_be_made_is_named_and_nothing_stays_open(tmp_path: Path) -> None:
    with pytest.raises(InferoxyError, match=r"nowhere/x\.csv: cannot be written: no such file"):
        ResultFiles(str(tmp_path / "x.jsonl"), str(tmp_path / "nowhere" / "x.csv"))
