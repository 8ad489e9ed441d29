"""Requests that were accepted from clients and have no final answer yet.

Pure: callers pass `now` and do what is returned. Sockets and timers are link.py's.
Invariants: an id is given once and taken out once; what was taken out is never returned again, so nobody is answered
twice; the heap of deadlines holds at most about twice as many entries as there are open requests.
"""

import heapq
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from bridges.slots import RequestSlots
from inferoxy.messages import Request, Response


class Answer(NamedTuple):
    """One answer: its header, and its tensors' frames in order."""

    response: Response
    frames: Sequence[Any]


OnResponse = Callable[[Response, Sequence[Any]], None]
_SWEEP_SLACK = 256


class Pending:
    """One open request and everything needed to send it again."""

    __slots__ = ("deadline", "frames", "is_open", "is_sent", "on_response", "request", "slots")

    def __init__(
        self,
        request: Request,
        frames: Sequence[Any],
        on_response: OnResponse,
        deadline: float,
        slots: RequestSlots | None = None,
    ) -> None:
        self.request = request
        self.frames = frames
        self.slots = slots
        self.on_response = on_response
        self.deadline = deadline
        self.is_open = True
        self.is_sent = False


class PendingRequests:
    """The table of open requests, by id and by deadline."""

    def __init__(self) -> None:
        self._open: dict[int, Pending] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._next_id = itertools.count(1)

    def __len__(self) -> int:
        return len(self._open)

    def add(
        self,
        request: Request,
        frames: Sequence[Any],
        on_response: OnResponse,
        deadline: float,
        slots: RequestSlots | None = None,
    ) -> Pending:
        """Take a request in, giving it its id."""
        request.id = next(self._next_id)
        pending = self._open[request.id] = Pending(request, frames, on_response, deadline, slots)
        heapq.heappush(self._deadlines, (deadline, request.id))
        if len(self._deadlines) > 2 * len(self._open) + _SWEEP_SLACK:
            self._deadlines = [entry for entry in self._deadlines if entry[1] in self._open]
            heapq.heapify(self._deadlines)
        return pending

    def find(self, request_id: int) -> Pending | None:
        """An open request, or None."""
        return self._open.get(request_id)

    def take(self, request_id: int) -> Pending | None:
        """Remove and return an open request; None when there is none of this id any more."""
        pending = self._open.pop(request_id, None)
        if pending is not None:
            pending.is_open = False
        return pending

    def take_all(self) -> list[Pending]:
        """Remove and return everything."""
        return [p for p in (self.take(i) for i in list(self._open)) if p is not None]

    def take_expired(self, now: float) -> list[Pending]:
        """Remove and return the requests whose deadline has come."""
        late: list[Pending] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            pending = self.take(heapq.heappop(self._deadlines)[1])
            if pending is not None:
                late.append(pending)
        return late

    def unsent(self) -> list[Pending]:
        """Requests that wait for the batch manager to be there, in the order they came."""
        return [p for p in self._open.values() if not p.is_sent]

    def sent_stateless(self) -> list[Pending]:
        """Requests that may simply be sent once more, in the order they came."""
        return [p for p in self._open.values() if p.is_sent and p.request.sequence is None]

    def take_lost(self) -> list[Pending]:
        """Remove and return the requests of sequences whose state went with the batch manager.

        A sequence whose start has not been sent yet has lost nothing: it stays, with the requests that follow it.
        """
        begun: set[tuple[str, str, int | str]] = set()
        lost: list[Pending] = []
        for request_id, pending in list(self._open.items()):
            sequence = pending.request.sequence
            if sequence is None:
                continue
            key = (pending.request.model, sequence.client, sequence.id)
            if sequence.start and not pending.is_sent:
                begun.add(key)
            elif pending.is_sent or key not in begun:
                self.take(request_id)
                lost.append(pending)
        return lost


def refresh_timeout(pending: Pending, now: float) -> None:
    """State the time that is left, in a request that is not sent at the moment it came in."""
    pending.request.timeout_us = max(1, int((pending.deadline - now) * 1e6))
