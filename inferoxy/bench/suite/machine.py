"""Who uses the processors: processes, their descendants, everybody else. Linux's /proc."""

import os
import time
from pathlib import Path
from typing import NamedTuple

QUIET_S = 0.5

_TICKS = os.sysconf("SC_CLK_TCK")


class Usage(NamedTuple):
    """Shares of all processors between two instants."""

    others: float  # by processes that are not descendants of this one
    stolen: float  # by other virtual machines


class _Reading(NamedTuple):
    at: float
    busy_s: float
    stolen_s: float
    ours_s: float


class Watch:
    """From when it is made until `stop`."""

    def __init__(self) -> None:
        self._begin = _read()

    def stop(self) -> Usage:
        """What was used meanwhile."""
        begin, end = self._begin, _read()
        capacity_s = max(1e-9, (end.at - begin.at) * (os.cpu_count() or 1))
        others_s = (end.busy_s - begin.busy_s) - (end.ours_s - begin.ours_s)
        return Usage(max(0.0, others_s) / capacity_s, (end.stolen_s - begin.stolen_s) / capacity_s)


def wait_quiet(share: float, patience_s: float) -> None:
    """Return when others have used less than `share` of the processors for QUIET_S, or the patience is at its end."""
    until = time.monotonic() + patience_s
    while True:
        watch = Watch()
        time.sleep(QUIET_S)
        usage = watch.stop()
        if usage.others + usage.stolen < share or time.monotonic() >= until:
            return


def processes_below(root: int) -> dict[int, list[str]]:
    """The command lines of a process and all its descendants, by pid."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        fields = _stat(int(entry.name))
        if fields:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: dict[int, list[str]] = {}
    left = [root]
    while left:
        pid = left.pop()
        try:
            found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        left += children.get(pid, [])
    return found


def cpu_s(pid: int) -> float:
    """Processor seconds of a process and of its ended children; 0 when there is none of this pid."""
    fields = _stat(pid)
    return sum(map(int, fields[11:15])) / _TICKS if fields else 0.0


def cpu_below_s(root: int) -> float:
    """The same of a process and all its descendants."""
    return sum(map(cpu_s, processes_below(root)))


def threads_cpu_s(pid: int) -> dict[str, float]:
    """Processor seconds of each thread of a process, by its name."""
    spent: dict[str, float] = {}
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            name, _, rest = (task / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        spent[name] = spent.get(name, 0.0) + sum(map(int, rest.split()[11:13])) / _TICKS
    return spent


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name, from the state on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _read() -> _Reading:
    user, nice, system, _idle, _wait, irq, soft, stolen = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    busy_s = (user + nice + system + irq + soft) / _TICKS
    return _Reading(time.monotonic(), busy_s, stolen / _TICKS, cpu_below_s(os.getpid()))
