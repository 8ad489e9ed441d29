"""Drills as people read them: a line while one runs and when it is over, two tables, and the last line."""

import time
from collections.abc import Sequence
from statistics import median
from types import TracebackType

from rich.console import Console
from rich.status import Status
from rich.table import Table

from tests.drill.drill import LOGS, Run
from tests.drill.records import NEVER, Counts

SHOWN_PROBLEMS = 12


class Report:
    """Writes to one console. A status line is shown while a drill runs, where that is a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None
        self._began = 0.0

    def begin(self, name: str, about: str) -> None:
        """A drill begins."""
        self._began = time.monotonic()
        self._status = self._console.status(f"{name}: {about}")
        if self._console.is_terminal:
            self._status.start()

    def say(self, name: str, doing: str) -> None:
        """What it does now."""
        if self._status is not None:
            self._status.update(f"{name}: {time.monotonic() - self._began:.0f} s, {doing}")

    def end(self, run: Run) -> None:
        """It is over."""
        self._stop()
        counts = run.counts
        took_s = time.monotonic() - self._began
        verdict = "[green]holds[/]" if run.holds else "[red]FAILS[/]"
        self._console.print(
            f"{run.name:18} {verdict}  {counts.requests:6,} requests  {counts.right:6,} right  "
            f"{counts.refused:4,} refused  {counts.lost} lost  {counts.wrong} wrong  {took_s:5.1f} s",
            highlight=False,
        )
        for note in run.notes:
            self._console.print(f"    {note}", highlight=False, markup=False)
        for problem in run.problems[:SHOWN_PROBLEMS]:
            self._console.print(f"    {problem}", highlight=False, markup=False, soft_wrap=True)
        for late in [recovered for recovered in run.recoveries if not recovered.holds]:
            text = f"{late.what}: {late.recovery.first_s:.2f} s, expected at most {late.limit_s:.2f} s"
            self._console.print(f"    {text}", highlight=False, markup=False)

    def skip(self, name: str, why: str) -> None:
        """It cannot run here."""
        self._stop()
        self._console.print(f"{name:18} notice: skipped, {why}", highlight=False, markup=False, soft_wrap=True)

    def finish(self, runs: Sequence[Run]) -> None:
        """The tables and the last line."""
        self._console.print(_blows(runs))
        self._console.print(_drills(runs))
        total = Counts()
        for run in runs:
            total = total.plus(run.counts)
        if not all(run.holds for run in runs):
            self._console.print(f"logs of the stacks: {LOGS}", highlight=False)
        self._console.print(f"drill: requests {total.requests} lost {total.lost} wrong {total.wrong}", highlight=False)

    def _stop(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None

    def __enter__(self) -> "Report":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()


def _drills(runs: Sequence[Run]) -> Table:
    table = Table("drill", *("requests", "right", "refused", "lost", "wrong", "recovered in", "limit"), "verdict")
    for column in table.columns[1:-1]:
        column.justify = "right"
    for run in runs:
        numbers = [f"{number:,}" for number in run.counts[:5]]
        worst = max(run.recoveries, key=lambda r: r.recovery.first_s / r.limit_s, default=None)
        slowest = max((r.recovery.first_s for r in run.recoveries), default=None)
        table.add_row(
            run.name,
            *numbers,
            _seconds(worst.recovery.first_s if worst and worst.limit_s < NEVER else slowest),
            _seconds(worst.limit_s if worst and worst.limit_s < NEVER else None),
            "holds" if run.holds else "FAILS",
        )
    return table


def _blows(runs: Sequence[Run]) -> Table:
    """One row for blows of a kind: the median, and the slowest."""
    names = ("blow", "times", "first right answer", "slowest", "as before", "slowest", "longest wait", "limit")
    table = Table(*names, title="Time to recover: medians, and the slowest of all")
    for column in table.columns[1:]:
        column.justify = "right"
    for run in runs:
        for what in dict.fromkeys(recovered.what for recovered in run.recoveries):
            same = [recovered for recovered in run.recoveries if recovered.what == what]
            first = [recovered.recovery.first_s for recovered in same]
            steady = [recovered.recovery.steady_s for recovered in same]
            wait = max(recovered.recovery.wait_s for recovered in same)
            times = [_seconds(value) for value in (median(first), max(first), median(steady), max(steady), wait)]
            limits = [recovered.limit_s for recovered in same]
            limit = _seconds(min(limits)) if min(limits) < NEVER else ""
            table.add_row(f"{run.name}: {what}", str(len(same)), *times, limit)
    return table


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return "none" if value == NEVER else f"{value:.2f} s"
