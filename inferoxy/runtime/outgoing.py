"""Keep the answers of stateful models in order.

Pictures are encoded by several threads, so a later batch can be done before an earlier one; a sequence's answers must
not overtake one another. Answers of stateless models need no order and do not come here.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

Send = Callable[[list[Any]], None]


class InOrder:
    """Sends messages batch by batch, in the order in which the batches were opened."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._open: deque[_Batch] = deque()
        self._lock = threading.Lock()

    def open(self) -> Callable[[list[Any], bool], None]:
        """The way out for the next batch: call it with each message's frames and whether it is the last; any thread."""
        batch = _Batch()
        with self._lock:
            self._open.append(batch)
        return lambda frames, is_last: self._put(batch, frames, is_last)

    def _put(self, batch: "_Batch", frames: list[Any], is_last: bool) -> None:
        with self._lock:
            batch.messages.append(frames)
            batch.is_done = is_last
            while self._open:
                head = self._open[0]
                while head.messages:
                    self._send(head.messages.popleft())
                if not head.is_done:
                    return
                self._open.popleft()


class _Batch:
    """Messages that wait for earlier batches."""

    __slots__ = ("is_done", "messages")

    def __init__(self) -> None:
        self.messages: deque[list[Any]] = deque()
        self.is_done = False
