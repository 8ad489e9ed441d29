"""Give one target its inputs, and find out what it could not take.

An input is known by seed, target and number, whatever was run before it: any of them can be made again.
A crash is any exception but InferoxyError, one that says that the fault is ours, more than HANG_S of time, or more than
MEMORY_BYTES of memory beyond what there was; the end of the process is noticed by processes.py.
"""

import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import NamedTuple

from inferoxy.errors import InferoxyError
from tests.fuzz.target import Input, Target
from tests.fuzz.world import OUR_FAULT

HANG_S = 2.0
MEMORY_BYTES = 512 << 20
KIB = 1024
MAX_CRASHES = 20  # of one target; one that fails at every input need not be told a thousand times


class Hang(BaseException):
    """An input took too long. Not an Exception, so that nobody takes it for a failure of a request."""


class Crash(NamedTuple):
    """What one input has done; `where` is equal for those that are likely to have one reason."""

    target: str
    number: int
    where: str
    why: str


@dataclass
class Tally:
    """What became of a target's inputs.

    `reasons` counts refusals by the line that refused; `peak_bytes` is the memory beyond which
    MEMORY_BYTES are a crash.
    """

    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    seconds: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)
    crashes: list[Crash] = field(default_factory=list)
    peak_bytes: int = 0

    def add(self, other: "Tally") -> None:
        """Take over what another part of the run has found."""
        self.inputs += other.inputs
        self.accepted += other.accepted
        self.refused += other.refused
        self.seconds += other.seconds
        self.reasons += other.reasons
        self.crashes += other.crashes


def make(target: Target, seed: int, number: int) -> Input:
    """The target's input of this number."""
    return target.make(Random(f"{seed} {target.name} {number}"))


def run(
    target: Target, seed: int, numbers: range, at: Callable[[int], None] = lambda number: None, is_timed: bool = True
) -> Tally:
    """Run these inputs.

    Args:
        target: Who reads them.
        seed: Another one gives other inputs.
        numbers: Which of them.
        at: Told of each number before it is run.
        is_timed: Whether an input that hangs is interrupted, which only the main thread can do.
    """
    tally = Tally(peak_bytes=_peak_bytes())
    began = time.perf_counter()
    for number in numbers:
        at(number)
        _one(target, make(target, seed, number), number, tally, is_timed)
        if len(tally.crashes) >= MAX_CRASHES:
            break
    tally.seconds = time.perf_counter() - began
    return tally


def replay(target: Target, given: Input) -> Tally:
    """Run one input that was kept."""
    tally = Tally(peak_bytes=_peak_bytes())
    _one(target, given, 0, tally, is_timed=True)
    return tally


def _one(target: Target, given: Input, number: int, tally: Tally, is_timed: bool) -> None:
    tally.inputs += 1
    began = time.perf_counter()
    if is_timed:
        signal.signal(signal.SIGALRM, _interrupt)
        signal.setitimer(signal.ITIMER_REAL, HANG_S)
    try:
        target.run(given)
        tally.accepted += 1
    except InferoxyError as exc:
        if exc.code in OUR_FAULT:
            tally.crashes.append(Crash(target.name, number, _where(exc), traceback.format_exc()))
        else:
            tally.refused += 1
            tally.reasons[_where(exc)] += 1
    except (Exception, Hang) as exc:
        tally.crashes.append(Crash(target.name, number, f"{type(exc).__name__} {_where(exc)}", traceback.format_exc()))
    finally:
        if is_timed:
            signal.setitimer(signal.ITIMER_REAL, 0)
    took_s, grown = time.perf_counter() - began, _peak_bytes() - tally.peak_bytes
    if took_s > HANG_S:
        tally.crashes.append(Crash(target.name, number, "slow", f"it took {took_s:.1f} s"))
    if grown > MEMORY_BYTES:
        tally.crashes.append(Crash(target.name, number, "memory", f"it took {grown >> 20} MiB"))
        tally.peak_bytes = _peak_bytes()


def _where(exc: BaseException) -> str:
    """The line that raised."""
    place = exc.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None:
        return "nowhere"
    return f"{place.tb_frame.f_code.co_filename.rpartition('/')[2]}:{place.tb_lineno}"


def _peak_bytes() -> int:
    """The most memory that this process has had; getrusage's figure would begin with that of the process before it."""
    status = Path("/proc/self/status").read_bytes()
    return int(status[status.index(b"VmHWM:") + 6 :].split(maxsplit=1)[0]) * KIB


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Hang(f"it has not ended within {HANG_S:g} s")
