"""Write telemetry as JSON lines, from a thread of its own, so that a slow disk delays no request.

One line per event, with `time`, seconds since 1970, beside the event's own monotonic `at_s`. A file that has reached
its size is renamed to FILE.1, replacing an older one. While the disk is full or slow, events are lost and counted, and
a line `{"event": "lost", "count": …}` says so.
"""

import os
import threading
import time
from pathlib import Path
from typing import IO, Any

import msgspec

from batch_manager.telemetry import Telemetry
from inferoxy import logs

EVERY_S = 0.25


class EventLog:
    """Empties a Telemetry into a file.

    Args:
        telemetry: Filled by another thread.
        path: The file; lines are appended to an existing one.
        limit_bytes: When it is put aside.
    """

    def __init__(self, telemetry: Telemetry, path: Path, limit_bytes: int) -> None:
        self._telemetry = telemetry
        self._path = path
        self._limit_bytes = limit_bytes
        self._unwritten = 0
        self._told = 0  # lost events that the file has been told of
        self._is_failing = False
        self._offset = time.time() - time.monotonic()
        self._encoder = msgspec.json.Encoder()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="event-log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what is left, within two seconds, and end."""
        self._stop.set()
        self._thread.join(timeout=2.0)

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            self._write()
        self._write()

    def _write(self) -> None:
        events = self._telemetry.take()
        missing = self._telemetry.lost + self._unwritten - self._told
        if not events and not missing:
            return
        lines = [self._line(event) for event in events]
        if missing:
            lines.insert(0, self._line({"event": "lost", "at_s": time.monotonic(), "count": missing}))
        try:
            with self._open() as file:
                file.write(b"".join(lines))
        except OSError as exc:
            self._unwritten += len(events)
            if not self._is_failing:
                logs.get().error("telemetry cannot be written", file=str(self._path), reason=exc.strerror)
            self._is_failing = True
            return
        self._told += missing
        if self._is_failing:
            logs.get().info("telemetry is written again", file=str(self._path))
        self._is_failing = False

    def _open(self) -> IO[bytes]:
        try:
            if self._path.stat().st_size >= self._limit_bytes:
                os.replace(self._path, self._path.with_name(self._path.name + ".1"))
        except FileNotFoundError:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        return self._path.open("ab")

    def _line(self, event: dict[str, Any]) -> bytes:
        return self._encoder.encode({"time": round(self._offset + event["at_s"], 6), **event}) + b"\n"
