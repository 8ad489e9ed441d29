"""Whether memory stays as it is: what each process of a stack has for itself, and a line through that."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

GROWTH_SHARE, GROWTH_MIB = 0.05, 4.0  # within the time looked at; less is bounded caches and the allocator's own unrest
KIB = 1024


class Line(NamedTuple):
    """A straight line through a process's memory, in MiB: where it begins, where it ends, and its slope a minute."""

    begin: float
    end: float
    slope: float

    @property
    def is_flat(self) -> bool:
        """Whether there is no more growth than GROWTH_MIB or GROWTH_SHARE of it."""
        return self.end - self.begin <= max(GROWTH_MIB, self.begin * GROWTH_SHARE)


class Watch:
    """Samples the memory of processes while it lasts.

    Args:
        pids: Gives the processes by name, each time.
        period_s: How often.
    """

    def __init__(self, pids: Callable[[], Mapping[str, int]], period_s: float = 1.0) -> None:
        self._pids = pids
        self._period_s = period_s
        self._samples: dict[str, list[tuple[float, float]]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def lines(self, since: float) -> dict[str, Line]:
        """A line for each process that was there all the time since this instant."""
        found: dict[str, Line] = {}
        for name, samples in self._samples.items():
            behind = [(at, mib) for at, mib in samples if at >= since]
            if len(behind) > 2:
                found[name] = fitted(behind)
        return found

    def _look(self) -> None:
        while not self._over.wait(self._period_s):
            now = time.monotonic()
            for name, pid in self._pids().items():
                mib = own_mib(pid)
                if mib is not None:
                    self._samples.setdefault(f"{name} {pid}", []).append((now, mib))


def fitted(samples: Sequence[tuple[float, float]]) -> Line:
    """The least-squares line through (seconds, MiB) samples of more than one instant."""
    count = len(samples)
    mean_at, mean = (sum(column) / count for column in zip(*samples, strict=True))
    spread = sum((at - mean_at) ** 2 for at, _ in samples)
    a_second = sum((at - mean_at) * (mib - mean) for at, mib in samples) / spread
    begin, end = (mean + a_second * (at - mean_at) for at in (samples[0][0], samples[-1][0]))
    return Line(begin, end, a_second * 60)


def own_mib(pid: int) -> float | None:
    """Memory that only this process has, neither code that others map nor the arena; None when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) / KIB
