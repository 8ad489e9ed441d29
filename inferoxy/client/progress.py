"""How far many requests have come: told to a function, or shown in one line of a terminal."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

REDRAW_S = 0.1
BAR_WIDTH = 24
CLEAR_LINE = "\r\x1b[2K"

Tell = Callable[[int, int | None], object]
Progress = bool | Tell


@contextmanager
def telling(progress: Progress, total: int | None, what: str) -> Iterator[Tell]:
    """What to call with the number done and the number there is, for as long as the context lasts.

    Args:
        progress: True for a line on stderr, if that is a terminal; False for nothing; or who is to be told.
        total: How many there are; None: not known.
        what: What stands at the beginning of the line.
    """
    if callable(progress):
        yield progress
    elif progress and sys.stderr.isatty():
        line = _Line(sys.stderr, what, total)
        try:
            yield line.tell
        finally:
            line.end()
    else:
        yield _nobody


def line_of(what: str, done: int, total: int | None, elapsed_s: float) -> str:
    """Such as `detector ━━━━━━━━╌╌╌╌╌╌╌╌  50/100  24.8/s  0:02 left`."""
    rate = done / elapsed_s if elapsed_s > 0 else 0.0
    if total is None:
        return f"{what}  {done}  {rate:.1f}/s  {_clock(elapsed_s)}"
    filled = BAR_WIDTH * done // total if total else BAR_WIDTH
    left = f"{_clock((total - done) / rate)} left" if rate else ""
    return f"{what} {'━' * filled}{'╌' * (BAR_WIDTH - filled)}  {done}/{total}  {rate:.1f}/s  {left}".rstrip()


class _Line:
    def __init__(self, terminal: TextIO, what: str, total: int | None) -> None:
        self._terminal = terminal
        self._what = what
        self._since = time.monotonic()
        self._drawn_at = float("-inf")
        self._told: tuple[int, int | None] = (0, total)
        self._draw(self._since)

    def tell(self, done: int, total: int | None) -> None:
        self._told = (done, total)
        now = time.monotonic()
        if now - self._drawn_at >= REDRAW_S:
            self._draw(now)

    def end(self) -> None:
        self._draw(time.monotonic())
        self._terminal.write("\n")
        self._terminal.flush()

    def _draw(self, now: float) -> None:
        self._drawn_at = now
        self._terminal.write(CLEAR_LINE + line_of(self._what, *self._told, now - self._since))
        self._terminal.flush()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _nobody(done: int, total: int | None) -> None:
    """Called where nobody is to be told."""
