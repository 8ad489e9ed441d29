"""Hold the answers to one request until the last one, within limits.

Pure: takes responses, gives the whole to `on_done` once.
"""

from collections.abc import Callable, Sequence
from typing import Any

from bridges.pending import Answer
from inferoxy import messages as m
from inferoxy.errors import Code, InferoxyError, PayloadTooLarge, error_from

COLLECT_AT_MOST = 4096  # answers to one request
COLLECT_AT_MOST_BYTES = 1 << 28

OnDone = Callable[[list[Answer] | InferoxyError], None]


class Collector:
    """Called with each response to a request.

    Args:
        model: For messages to people.
        at_most: More answers than these, or more than COLLECT_AT_MOST_BYTES of them, become an error.
        on_done: Gets all answers that carry a result, or the error.
        cancel: Called before `on_done` when there are too many; no further response may come.
    """

    __slots__ = ("_answers", "_at_most", "_bytes", "_cancel", "_model", "_on_done")

    def __init__(self, model: str, at_most: int, on_done: OnDone, cancel: Callable[[], None]) -> None:
        self._model = model
        self._at_most = at_most
        self._on_done = on_done
        self._cancel = cancel
        self._answers: list[Answer] = []
        self._bytes = 0

    def __call__(self, response: m.Response, tensors: Sequence[Any]) -> None:
        if response.code:
            self._on_done(error_from(response.code, response.error))
            return
        answers = self._answers
        if response.payload != m.NO_PAYLOAD:
            answers.append(Answer(response, tensors))
        if response.final and len(answers) <= self._at_most:
            self._on_done(answers)
            return
        self._bytes += len(response.data) + sum(map(len, tensors))
        if len(answers) > self._at_most or self._bytes > COLLECT_AT_MOST_BYTES:
            self._cancel()
            self._on_done(self._too_much())

    def _too_much(self) -> InferoxyError:
        if self._at_most == 1:
            why = f"model {self._model!r} answers more than once: use a protocol that gives several answers"
            return InferoxyError(f"{why} to one request", Code.UNSUPPORTED)
        limits = f"{self._at_most} answers of {COLLECT_AT_MOST_BYTES} bytes together"
        return PayloadTooLarge(f"model {self._model!r}: expected at most {limits}, found more")
