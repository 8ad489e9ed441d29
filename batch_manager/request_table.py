"""Every accepted request without a final answer: by peer and id, and by deadline.

Pure. Invariants: a (peer, id) is open at most once; closing is what ends a request, wherever it is; the deadline heap
holds at most about twice as many entries as there are open requests.
"""

import heapq
from typing import Any

from batch_manager.queues import Pending, State
from inferoxy.messages import Request

_SWEEP_SLACK = 256


class RequestTable:
    """The open requests of all bridges."""

    def __init__(self) -> None:
        self.count = 0
        self._peers: dict[bytes, dict[int, Pending]] = {}
        self._seen: dict[bytes, float] = {}
        self._deadlines: list[tuple[float, int, Pending]] = []

    def open(self, peer: bytes, header: Request, frames: Any, now: float, deadline: float) -> Pending | None:
        """Take a request in; None when it is open already: its bridge sent it again, not knowing it had arrived."""
        mine = self._peers.get(peer)
        if mine is None:
            mine = self._peers[peer] = {}
            self._seen.setdefault(peer, now)
        if header.id in mine:
            return None
        pending = mine[header.id] = Pending(peer, header, frames, now, deadline)
        self.count += 1
        heapq.heappush(self._deadlines, (deadline, pending.arrival, pending))
        if len(self._deadlines) > 2 * self.count + _SWEEP_SLACK:
            self._deadlines = [entry for entry in self._deadlines if entry[2].state is not State.DONE]
            heapq.heapify(self._deadlines)
        return pending

    def find(self, peer: bytes, request_id: int) -> Pending | None:
        """An open request, or None."""
        mine = self._peers.get(peer)
        return mine.get(request_id) if mine else None

    def close(self, pending: Pending) -> None:
        """The request has its final answer."""
        pending.state = State.DONE
        pending.frames = ()
        self.count -= 1
        mine = self._peers.get(pending.peer)
        if mine is not None:
            mine.pop(pending.header.id, None)

    def next_deadline(self) -> float:
        """The earliest instant at which `take_expired` may give something."""
        return self._deadlines[0][0] if self._deadlines else float("inf")

    def take_expired(self, now: float) -> Pending | None:
        """One open request whose deadline has come, or None."""
        while self._deadlines and self._deadlines[0][0] <= now:
            pending = heapq.heappop(self._deadlines)[2]
            if pending.state is not State.DONE:
                return pending
        return None

    def seen(self, peer: bytes, now: float) -> None:
        """A bridge gave a sign of life."""
        self._seen[peer] = now

    def peers(self) -> list[bytes]:
        """Bridges that have been heard."""
        return list(self._seen)

    def silent(self, now: float, after_s: float) -> list[bytes]:
        """Bridges that have said nothing for so long."""
        return [peer for peer, at in self._seen.items() if now - at > after_s]

    def forget(self, peer: bytes) -> list[Pending]:
        """A bridge is gone; returns its open requests, which the caller closes."""
        self._seen.pop(peer, None)
        return list(self._peers.pop(peer, {}).values())
