"""Run a target in a process of its own, so that one that dies or never ends is noticed, and blamed on its input.

Invariant: no process that was started here outlives the call that started it.
"""

import multiprocessing
import os
import resource
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.fuzz.engine import Crash, Tally, run
from tests.fuzz.target import Target

STUCK_S = 30.0  # without a next input: what holds the interpreter's lock cannot be interrupted from within
ROOM_BYTES = 4 << 30  # of address space beyond what a process begins with
LOOK_S = 0.25

_SPAWN = multiprocessing.get_context("spawn")


def run_apart(made: Callable[[], Target], seed: int, inputs: int) -> Tally:
    """Run a target's first `inputs` inputs, in as many processes as it takes.

    Args:
        made: Makes the target; a class or function of a module, since the processes import it.
        seed: The run's.
        inputs: How many.
    """
    whole, begin = Tally(), 0
    while begin < inputs:
        at = _SPAWN.Value("q", begin, lock=False)
        here, there = _SPAWN.Pipe(duplex=False)
        process = _SPAWN.Process(target=_work, args=(made, seed, range(begin, inputs), at, there), daemon=True)
        process.start()
        there.close()
        try:
            found = _wait(process, here, at)
        finally:
            process.kill()
            process.join()
            here.close()
        if found is not None:
            whole.add(found)
            return whole
        died = Crash(made().name, at.value, "process", f"the process ended or was stuck (exit code {process.exitcode})")
        whole.crashes.append(died)
        whole.inputs += at.value + 1 - begin
        begin = at.value + 1
    return whole


def _wait(process: Any, here: Connection, at: Any) -> Tally | None:
    """What it has found; None when it has died or is stuck."""
    number, moved_at = at.value, time.monotonic()
    while True:
        if here.poll(LOOK_S):
            try:
                found: Tally = here.recv()
            except EOFError:
                process.join()
                return None
            return found
        if at.value != number:
            number, moved_at = at.value, time.monotonic()
        elif time.monotonic() - moved_at > STUCK_S:
            return None


def _work(made: Callable[[], Target], seed: int, numbers: range, at: Any, there: Connection) -> None:
    """The process's own part."""
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 2)  # decoders of pictures print what they think of each
    target = made()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    room = pages * resource.getpagesize() + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (room, room))

    def note(number: int) -> None:
        at.value = number

    there.send(run(target, seed, numbers, note))
    there.close()
