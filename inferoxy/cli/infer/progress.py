"""How far `inferoxy infer` is: a bar on a terminal, else a line now and then, on stderr.

Lines for people go through it, so that they stand above the bar. It counts; what is counted is the caller's.
"""

import sys
import time
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rich.progress import Progress

LINE_EVERY_S = 10.0  # where stderr is no terminal


class Count:
    """What there is to say.

    Args:
        what: What is counted, such as "frames".
        total: How many there are; None: not known.
        is_shown: Whether to show anything before the end.
        is_quiet: Whether to say nothing but errors.

    Attributes:
        done: How many have their answer or have failed.
        failed: How many have failed.
    """

    def __init__(self, what: str, total: int | None, *, is_shown: bool = True, is_quiet: bool = False) -> None:
        self.done = self.failed = 0
        self._what = what
        self._total = total
        self._is_quiet = is_quiet
        self._began = self._told = time.monotonic()
        self._bar: Progress | None = None
        self._is_told = is_shown and not is_quiet
        if self._is_told and sys.stderr.isatty():
            self._bar = self._make_bar()

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def add(self, *, done: int = 1, failed: int = 0) -> None:
        """So many more are done, of which so many have failed."""
        self.done += done
        self.failed += failed
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self.done, failed=_failed(self.failed))
        elif self._is_told and time.monotonic() - self._told >= LINE_EVERY_S:
            self._told = time.monotonic()
            print(self.line(), file=sys.stderr, flush=True)

    def expect(self, total: int | None) -> None:
        """There are so many, as is known now."""
        self._total = total
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], total=total)

    def say(self, line: str) -> None:
        """Print a line on stdout."""
        if self._is_quiet:
            return
        if self._bar is not None and sys.stdout.isatty():
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, flush=self._bar is not None)

    def complain(self, line: str) -> None:
        """Print an error on stderr."""
        if self._bar is not None:
            self._bar.console.print(f"error: {line}", markup=False, highlight=False, soft_wrap=True)
        else:
            print(f"error: {line}", file=sys.stderr)

    def amount(self) -> str:
        """How many are done of how many: 37 of 120 pictures."""
        whole = self._total is None or self._total == self.done
        what = self._what[:-1] if whole and self.done == 1 and self._what.endswith("s") else self._what
        return f"{self.done:,} {what}" if whole else f"{self.done:,} of {self._total:,} {what}"

    def line(self, *, is_end: bool = False) -> str:
        """All of it: amount, failures, rate, and the time left or, at the end, the time it took."""
        took_s = time.monotonic() - self._began
        rate = self.done / took_s if took_s else 0.0
        parts = [self.amount(), _failed(self.failed)]
        if is_end:
            parts.append(f"in {_duration(took_s)} ({rate:,.{1 if rate < 10 else 0}f}/s)")
        else:
            parts.append(f"{rate:,.{1 if rate < 10 else 0}f}/s")
            if self._total is not None and rate:
                parts.append(f"{_duration(max(0, self._total - self.done) / rate)} left")
        return ", ".join(part for part in parts if part)

    def _make_bar(self) -> "Progress":
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn(self._what),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("[red]{task.fields[failed]}"),
            _rate_column(),
            TimeRemainingColumn(compact=True),
        )
        bar = Progress(
            *columns, console=Console(stderr=True), redirect_stdout=False, redirect_stderr=False, transient=True
        )
        bar.add_task("", total=self._total, failed="")
        return bar


def _rate_column() -> Any:
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Rate(ProgressColumn):
        """How many a second, of late."""

        def render(self, task: Task) -> Text:
            speed = task.speed
            return Text("" if not speed else f"{speed:,.{1 if speed < 10 else 0}f}/s")

    return Rate()


def _failed(count: int) -> str:
    return f"{count:,} failed" if count else ""


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
