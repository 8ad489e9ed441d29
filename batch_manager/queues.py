"""One model's waiting requests, in the order they are to be served.

Pure. When a batch is due is dynamic_batcher.py's; what happens to a refused request is core.py's.
Invariants: order is higher priority, then earlier due, then arrival; a group holds requests that may share a
batch; every cost is O(log n) amortised, whatever the number of groups: entries that left early are skipped when they
surface, and swept when they outnumber the live ones.
"""

import heapq
import itertools
from collections import deque
from enum import IntEnum
from typing import Any

from inferoxy.messages import Request, RequestFlag

_SWEEP_SLACK = 64  # stale entries tolerated before a sweep

_arrivals = itertools.count()
_pushes = itertools.count()


class State(IntEnum):
    """Where a request is, in this order; QUEUED once more when its instance is lost, DONE from anywhere."""

    NEW = 0
    QUEUED = 1
    IN_FLIGHT = 2
    DONE = 3


class Pending:
    """One accepted request until its final answer. `frames` are its tensors, never read here."""

    __slots__ = (
        "arrival",
        "arrived_at",
        "deadline",
        "deaths",
        "due_at",
        "frames",
        "group",
        "header",
        "is_held",
        "is_partial",
        "is_suspect",
        "model",
        "peer",
        "priority",
        "queue_us",
        "queued_at",
        "rows",
        "sequence",
        "state",
    )

    def __init__(self, peer: bytes, header: Request, frames: Any, now: float, deadline: float) -> None:
        self.peer = peer
        self.header = header
        self.frames = frames
        self.arrived_at = now
        self.queued_at = now  # once more when it is queued once more
        self.deadline = deadline
        self.due_at = deadline  # the order's: when its answer should be there at the latest
        self.priority = header.priority
        self.sequence: Any = None  # the sequence_batcher.Sequence that it is a step of
        self.arrival = next(_arrivals)
        self.rows = 1
        self.group = ""
        self.state = State.NEW
        self.deaths = 0  # instances lost while they ran it
        self.is_partial = False  # some of its answers are out already
        self.is_held = False  # it has its final answer, but an instance still looks at its slots
        self.is_suspect = header.flags & RequestFlag.AGAIN != 0  # a lost instance may look at its slots
        self.queue_us = 0
        self.model: Any = None


Entry = tuple[int, float, int, int, Pending]  # minus priority, due, arrival, a number that makes it unique


class Group:
    """Requests that may share a batch, best first."""

    __slots__ = ("count", "heap", "items", "key")

    def __init__(self, key: str) -> None:
        self.key = key
        self.heap: list[Entry] = []
        self.count = 0
        self.items = 0


class RequestQueue:
    """Waiting requests of one model version.

    `limit` is the number of items a batch may hold. When `stacked`, requests group by their key and count as their
    rows; otherwise all share one group and count as one. A request that outlived a lost instance is a group of its own.
    """

    def __init__(self, limit: int = 1, *, stacked: bool = False) -> None:
        self.limit = limit
        self.stacked = stacked
        self.count = 0
        self.items = 0
        self.bytes = 0
        self.has_new_head = False  # set by `push`; whoever goes by the head takes it back
        self._groups: dict[str, Group] = {}
        self._full: dict[str, Group] = {}
        self._heads: list[tuple[Entry, Group]] = []
        self._arrived: deque[Pending] = deque()

    def __len__(self) -> int:
        return self.count

    def push(self, pending: Pending) -> None:
        """Add a request in its place."""
        pending.state = State.QUEUED
        if pending.deaths:
            pending.group = f"\0{pending.arrival}"
        else:
            pending.group = pending.header.key if self.stacked else ""
        pending.rows = pending.header.rows if self.stacked else 1
        group = self._groups.get(pending.group)
        if group is None:
            group = self._groups[pending.group] = Group(pending.group)
        entry = (-pending.priority, pending.due_at, pending.arrival, next(_pushes), pending)
        heapq.heappush(group.heap, entry)
        if group.heap[0] is entry:
            heapq.heappush(self._heads, (entry, group))
            self.has_new_head = True
        group.count += 1
        group.items += pending.rows
        if group.items >= self.limit and not pending.deaths:
            self._full[group.key] = group
        self.count += 1
        self.items += pending.rows
        self.bytes += pending.header.size
        if self._arrived and pending.arrival < self._arrived[0].arrival:
            self._arrived.appendleft(pending)
        else:
            self._arrived.append(pending)

    def discard(self, pending: Pending, state: State = State.DONE) -> None:
        """Take one request out of turn: it was cancelled, has expired or is dropped."""
        group = self._groups[pending.group]
        self._leave(group, pending, state)
        self._settle(group)
        if len(group.heap) > 2 * group.count + _SWEEP_SLACK:
            group.heap = [e for e in group.heap if self._is_live(e, group)]
            heapq.heapify(group.heap)
        self._sweep()

    def head(self) -> Pending | None:
        """The request to be served next, or None when nothing waits."""
        group = self._head_group()
        return group.heap[0][4] if group else None

    def oldest(self) -> Pending | None:
        """The request that has waited longest, or None."""
        while self._arrived and self._arrived[0].state is not State.QUEUED:
            self._arrived.popleft()
        return self._arrived[0] if self._arrived else None

    def newest(self) -> Pending | None:
        """The request that came last, or None."""
        while self._arrived and self._arrived[-1].state is not State.QUEUED:
            self._arrived.pop()
        return self._arrived[-1] if self._arrived else None

    def worst(self) -> Pending | None:
        """The request to be served last, or None. Looks at all of them."""
        return max(self._live(), default=_NOTHING)[4]

    def is_full(self) -> bool:
        """Whether some group fills a batch."""
        return bool(self._full)

    def is_head_full(self) -> bool:
        """Whether the group whose turn it is fills a batch."""
        group = self._head_group()
        return group is not None and group.items >= self.limit

    def take(self, *, full_only: bool = False, at_most: int | None = None) -> list[Pending]:
        """Remove and return the next batch: 1..limit items of one group, in order; empty when there is none.

        Args:
            full_only: Only a group that fills a batch will do; the one whose head is first.
            at_most: Less than the limit; a first request of more items is taken all the same.
        """
        limit = self.limit if at_most is None else min(at_most, self.limit)
        group = self._head_group()
        if group is None or (full_only and group.items < self.limit):
            group = min(self._full.values(), key=self._first, default=None) if full_only else None
            if group is None:
                return []
        taken: list[Pending] = []
        items = 0
        heap = group.heap
        while heap:
            pending = heap[0][4]
            if pending.state is not State.QUEUED or pending.group != group.key:
                heapq.heappop(heap)
                continue
            if taken and items + pending.rows > limit:
                break
            heapq.heappop(heap)
            items += pending.rows
            self._leave(group, pending, State.IN_FLIGHT)
            taken.append(pending)
            if items >= limit:
                break
        self._settle(group)
        first = self._first(group)
        if first is not _NOTHING:
            heapq.heappush(self._heads, (first, group))
        self._sweep()
        return taken

    def misfits(self) -> list[Pending]:
        """Requests that no batch can hold, now that the model's limit is known."""
        if not self.stacked:
            return []
        return [entry[4] for entry in self._live() if not 1 <= entry[4].rows <= self.limit]

    def drain(self) -> list[Pending]:
        """Remove and return everything, in order."""
        waiting = sorted(self._live())
        self._groups.clear()
        self._full.clear()
        self._heads.clear()
        self._arrived.clear()
        self.count = self.items = self.bytes = 0
        return [entry[4] for entry in waiting]

    def reshape(self, limit: int, *, stacked: bool) -> None:
        """Change what may share a batch, keeping order and arrivals."""
        if (limit, stacked) == (self.limit, self.stacked):
            return
        waiting = sorted(self.drain(), key=lambda p: p.arrival)
        self.limit, self.stacked = limit, stacked
        for pending in waiting:
            self.push(pending)

    def _live(self) -> list[Entry]:
        return [entry for group in self._groups.values() for entry in group.heap if self._is_live(entry, group)]

    @staticmethod
    def _is_live(entry: Entry, group: Group) -> bool:
        return entry[4].state is State.QUEUED and entry[4].group == group.key

    def _first(self, group: Group) -> Entry:
        """The group's first live entry; drops stale ones before it. Empty groups are never asked."""
        while group.heap and not self._is_live(group.heap[0], group):
            heapq.heappop(group.heap)
        return group.heap[0] if group.heap else _NOTHING

    def _head_group(self) -> Group | None:
        heads = self._heads
        while heads:
            entry, group = heads[0]
            if self._is_live(entry, group) and self._groups.get(group.key) is group:
                return group
            heapq.heappop(heads)
            if self._groups.get(group.key) is group:
                first = self._first(group)
                if first is not _NOTHING and first is not entry:
                    heapq.heappush(heads, (first, group))
        return None

    def _leave(self, group: Group, pending: Pending, state: State) -> None:
        pending.state = state
        group.count -= 1
        group.items -= pending.rows
        self.count -= 1
        self.items -= pending.rows
        self.bytes -= pending.header.size

    def _settle(self, group: Group) -> None:
        if group.items < self.limit:
            self._full.pop(group.key, None)
        if not group.count:
            self._groups.pop(group.key, None)

    def _sweep(self) -> None:
        if len(self._arrived) > 2 * self.count + _SWEEP_SLACK:
            self._arrived = deque(p for p in self._arrived if p.state is State.QUEUED)
        if len(self._heads) > 2 * self.count + _SWEEP_SLACK:
            self._heads = [(self._first(g), g) for g in self._groups.values()]
            heapq.heapify(self._heads)


_NOTHING: Entry = (0, 0.0, -1, -1, None)  # type: ignore[assignment]
