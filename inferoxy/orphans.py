"""Processes whose parent has died: a supervisor adopts them, so that none is lost or left behind. Linux.

Invariant: when `kill_all` has returned in time, the calling process has no child.
"""

import ctypes
import os
import signal
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def adopt() -> None:
    """Become the parent of every process whose own parent dies: a killed task manager's instances are not lost."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap(known: set[int]) -> None:
    """Take the exit status of adopted processes that have ended; `known` are the caller's own children."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in known:
            return  # that one is the caller's to take first; the next call sees further
        os.waitpid(ended.si_pid, 0)


def kill_all(until: float) -> None:
    """Kill what is still below this process. Their own children are adopted as they die, so look until none is left."""
    while time.monotonic() < until:
        reap(set())
        children = _children()
        if not children:
            return
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.01)


def _children() -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            found.append(int(entry.parent.name))
    return found
