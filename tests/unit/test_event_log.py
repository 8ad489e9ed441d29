"""Telemetry as JSON lines: what is written, what a full disk costs, how large files get."""

import json
from pathlib import Path

import pytest

from batch_manager.event_log import EventLog
from batch_manager.queues import Pending
from batch_manager.telemetry import Telemetry
from inferoxy import messages as m
from inferoxy.errors import Code


@pytest.fixture
def events() -> Telemetry:
    return Telemetry(at_most=100)


def note(events: Telemetry, number: int) -> None:
    request = m.Request(id=number, model="m", request_id=f"r{number}", sequence=m.Sequence(7))
    events.dropped(Pending(b"", request, (), 1.0, 9.0), Code.SHED, "queue_size", 1.5)


def written(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_event_is_a_line_with_the_time_of_day(tmp_path: Path, events: Telemetry) -> None:
    log = EventLog(events, tmp_path / "deep" / "events.jsonl", 1 << 20)
    note(events, 1)
    log.close()
    (line,) = written(tmp_path / "deep" / "events.jsonl")
    assert line.pop("time") > 1.7e9  # type: ignore[operator]
    assert line == {
        "event": "shed", "at_s": 1.5, "model": "m", "version": "", "request_id": "r1", "sequence_id": 7,
        "code": "SHED", "reason": "queue_size", "waited_ms": 500.0,
    }  # fmt: skip


def test_what_did_not_fit_into_memory_is_told_in_the_file(tmp_path: Path, events: Telemetry) -> None:
    for number in range(130):
        note(events, number)
    log = EventLog(events, tmp_path / "events.jsonl", 1 << 20)
    log.close()
    lines = written(tmp_path / "events.jsonl")
    assert lines[0]["event"] == "lost"
    assert lines[0]["count"] == 30
    assert len(lines) == 101


def test_a_file_that_has_reached_its_size_is_put_aside(tmp_path: Path, events: Telemetry) -> None:
    path = tmp_path / "events.jsonl"
    for number in range(4):
        note(events, number)
        EventLog(events, path, 150).close()
    assert (len(written(path)), len(written(tmp_path / "events.jsonl.1"))) == (1, 1)


def test_events_that_cannot_be_written_are_counted_and_the_next_ones_follow(tmp_path: Path, events: Telemetry) -> None:
    path = tmp_path / "events.jsonl"
    path.mkdir()
    log = EventLog(events, path, 1 << 20)
    note(events, 1)
    log._write()
    path.rmdir()
    note(events, 2)
    log.close()
    assert [(line["event"], line.get("count", line.get("request_id"))) for line in written(path)] == [
        ("lost", 1),
        ("shed", "r2"),
    ]
