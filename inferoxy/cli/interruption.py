"""Ctrl-C and SIGTERM, which wait while something is written.

Invariant: KeyboardInterrupt is never raised inside `held`; the signal that came meanwhile is raised behind it.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Both signals as KeyboardInterrupt, while the `with` block lasts; for the main thread."""

    def __init__(self) -> None:
        self._depth = 0
        self._is_waiting = False
        self._before: list[Any] = []

    def __enter__(self) -> Self:
        for number in SIGNALS:
            before = signal.getsignal(number)
            if before is not signal.SIG_IGN:  # as a shell tells those in the background
                signal.signal(number, self._on_signal)
            self._before.append(signal.SIG_DFL if before is None else before)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in zip(SIGNALS, self._before, strict=True):
            signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let them wait until the block has ended."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
        if self._is_waiting and not self._depth:
            self._is_waiting = False
            raise KeyboardInterrupt

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._depth:
            self._is_waiting = True
        else:
            raise KeyboardInterrupt
