"""What is kept of each instance's process on disk, so that a restarted task manager finds it again.

One JSON file an instance, written before the process is started and again with its pid. A pid alone proves nothing,
because numbers are used again: a process is the recorded one only if it also started at the recorded clock tick.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from task_manager.launchers.base import Running

_STATE_FIELD, _START_FIELD = 0, 19  # of /proc/PID/stat, counted behind the command's closing bracket
_ENCODER = msgspec.json.Encoder()


class Record(Struct, kw_only=True):
    """One instance's process. `pid` 0: it was about to be started."""

    instance: str
    model: str
    version: str
    digest: str
    device: str
    gpu_memory_mib: int
    started_at: float
    log: str
    pid: int = 0
    start_ticks: int = 0

    def running(self) -> Running:
        """As launchers tell it."""
        return Running(
            instance=self.instance,
            model=self.model,
            version=self.version,
            digest=self.digest,
            device=self.device,
            gpu_memory_mib=self.gpu_memory_mib,
            where=f"pid {self.pid}",
            started_at=self.started_at,
            log=self.log,
        )


class RecordFiles:
    """The records in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, record: Record) -> None:
        """Store or replace; a reader never sees half of it."""
        path = self._path(record.instance)
        temporary = path.with_suffix(".new")
        temporary.write_bytes(_ENCODER.encode(record))
        temporary.replace(path)

    def remove(self, instance: str) -> None:
        """Forget one; nothing happens where there is none."""
        self._path(instance).unlink(missing_ok=True)

    def read(self) -> Iterator[Record]:
        """All of them; a damaged file is removed."""
        for path in sorted(self._folder.glob("*.json")):
            try:
                yield msgspec.json.decode(path.read_bytes(), type=Record)
            except (msgspec.DecodeError, OSError):
                path.unlink(missing_ok=True)

    def _path(self, instance: str) -> Path:
        return self._folder / f"{instance}.json"


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when it does not exist or is only a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[_STATE_FIELD] in "ZX" else int(fields[_START_FIELD])


def find_by_environment(instance: str) -> int | None:
    """The pid of the process that was told to be this instance: for one whose record was not completed."""
    wanted = f'"instance":{msgspec.json.encode(instance).decode()}'.encode()
    for pid in [int(name) for name in os.listdir("/proc") if name.isdecimal()]:
        try:
            # A child of the instance has the same environment: the leader of the session is the one that was started.
            environment = Path(f"/proc/{pid}/environ").read_bytes() if os.getsid(pid) == pid else b""
        except OSError:
            continue
        if any(wanted in told for told in environment.split(b"\0") if told.startswith(b"INFEROXY_INSTANCE=")):
            return pid
    return None
