"""Stateful models: which instance a sequence holds, and its next batch.

Pure: callers pass `now`. A sequence holds one of an instance's places from its first request to its end; its requests
run in order and share batches only with each other. A sequence is known by its client and id.
Invariants: a sequence has at most one batch in flight; an instance never holds more sequences than its places; starts
wait in arrival order when no place is free; every sequence whose start was sent to an instance ends there too: by its
last step, or by an `Ending` that the caller passes on.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from batch_manager.dispatcher import Instance, InstanceMode
from batch_manager.queues import Pending, State
from inferoxy.errors import Code, InferoxyError, InvalidRequest
from inferoxy.kept import Kept

SequenceId = int | str
Key = tuple[str, SequenceId]  # client and id

MAX_KEPT = 4_096  # ended sequences whose end is remembered

_notes = itertools.count()


class Ending(NamedTuple):
    """An instance is to be told that a sequence is over."""

    instance: Instance
    key: Key
    reason: str


class Sequence:
    """One live sequence. `steps` wait, in order; `instance` is None while it waits for a place."""

    __slots__ = ("ending", "has_begun", "in_flight", "instance", "is_over", "key", "last_at", "steps")

    def __init__(self, key: Key, now: float) -> None:
        self.key = key
        self.instance: Instance | None = None
        self.steps: deque[Pending] = deque()
        self.in_flight = 0
        self.last_at = now
        self.ending = False  # its last step is here
        self.has_begun = False  # its first step was sent
        self.is_over = False


class SequenceBatcher:
    """Sequences of one stateful model version.

    Args:
        limit: Most steps of a batch.
        places: Sequences that an instance holds at a time.
        idle_s: Seconds without a request after which a sequence ends.
    """

    def __init__(self, limit: int, places: int, idle_s: float) -> None:
        self.limit = limit
        self.places = places
        self.idle_s = idle_s
        self.count = 0
        self.bytes = 0
        self.endings: list[Ending] = []  # for the caller to pass on and clear
        self._live: dict[Key, Sequence] = {}
        self._waiting: deque[Sequence] = deque()
        self._waiting_count = 0
        self._held: dict[str, dict[Key, Sequence]] = {}
        self._ready: dict[str, list[tuple[int, int, Sequence]]] = {}  # by instance, the one that waited longest first
        self._due: dict[str, Instance] = {}
        self._clients: dict[str, dict[Key, Sequence]] = {}
        self._ended: Kept[Key, tuple[str, bool]] = Kept(MAX_KEPT)  # why, and whether something went wrong
        self._has_changed = False

    def __len__(self) -> int:
        return self.count

    def push(self, pending: Pending, now: float) -> list[Pending]:
        """Take a request in; returns the steps of an older sequence of that id, which a new start has replaced.

        Raises:
            InvalidRequest: It carries no sequence.
            InferoxyError: SEQUENCE_LOST, it did not end by itself; SEQUENCE_UNKNOWN, it did, or was never started. The
                message says what is known.
        """
        step = pending.header.sequence
        if step is None or step.id in (0, ""):
            raise InvalidRequest("sequence_id: expected one for a stateful model, found none")
        key = (step.client, step.id)
        live = self._live.get(key)
        replaced: list[Pending] = []
        if step.start:
            if live is not None:
                replaced = self.drop(live, "ended", "it was started anew")
            live = self._live[key] = Sequence(key, now)
            self._ended.pop(key, None)
            self._waiting.append(live)
            self._waiting_count += 1
            self._has_changed = True
            if step.client:
                self._clients.setdefault(step.client, {})[key] = live
        elif live is None or live.ending:
            raise self._not_live(key, live)
        live.steps.append(pending)
        live.last_at = now
        live.ending = step.end
        pending.sequence = live
        pending.state = State.QUEUED
        self.count += 1
        self.bytes += pending.header.size
        if len(live.steps) == 1:
            self._note_ready(live)
        return replaced

    def discard(self, pending: Pending) -> list[Pending]:
        """Take out a request that was cancelled or has expired.

        The sequence lives on without it, unless that was its start: then the steps behind it are returned, which
        cannot be run either.
        """
        live = pending.sequence
        if live is None or live.is_over or pending not in live.steps:
            return []
        is_first = live.steps[0] is pending
        live.steps.remove(pending)
        self._forget(pending)
        if not live.has_begun and is_first:
            return self.drop(live, "failed", "its start was not run")
        if live.ending and not live.steps and not live.in_flight:
            return self.drop(live, "ended", "it was ended")
        if is_first:
            self._note_ready(live)
        return []

    @property
    def wants_place(self) -> bool:
        """Whether `assign` may find a place for a sequence that waits for one."""
        return self._has_changed and self._waiting_count > 0

    def places_changed(self) -> None:
        """Instances have come, or places become free."""
        self._has_changed = True

    def assign(self, free: Iterable[Instance]) -> None:
        """Give waiting sequences the free places of these instances, in order."""
        self._has_changed = False
        for instance in free:
            held = self._held.setdefault(instance.name, {})
            while self._waiting and len(held) < self.places:
                sequence = self._waiting.popleft()
                if sequence.is_over:
                    continue
                self._waiting_count -= 1
                sequence.instance = instance
                held[sequence.key] = sequence
                instance.sequences = len(held)
                self._note_ready(sequence)

    def look_at(self, instance: Instance) -> None:
        """The instance may have become able to take a batch."""
        if self._ready.get(instance.name):
            self._due[instance.name] = instance

    def take_due(self) -> list[Instance]:
        """Remove and return the instances that may have a batch to be given."""
        due, self._due = self._due, {}
        return list(due.values())

    def first(self, instance: Instance) -> Pending | None:
        """The step that this instance's next batch begins with, or None."""
        ready = self._ready.get(instance.name)
        while ready:
            arrival, _, sequence = ready[0]
            is_here = sequence.instance is instance and not sequence.in_flight and not sequence.is_over
            if is_here and sequence.steps and sequence.steps[0].arrival == arrival:
                return sequence.steps[0]
            heapq.heappop(ready)
        return None

    def take(self, instance: Instance, at_most: int | None = None) -> list[Pending]:
        """The next batch for this instance: consecutive requests of the sequence that has waited longest."""
        if self.first(instance) is None:
            return []
        sequence = heapq.heappop(self._ready[instance.name])[2]
        batch: list[Pending] = []
        limit = self.limit if at_most is None else min(at_most, self.limit)
        while sequence.steps and len(batch) < limit:
            pending = sequence.steps.popleft()
            self._forget(pending)
            pending.state = State.IN_FLIGHT
            batch.append(pending)
        sequence.in_flight = len(batch)
        sequence.has_begun = True
        return batch

    def answered(self, pending: Pending, now: float, *, has_failed: bool) -> list[Pending]:
        """A step in flight got its final answer; the last step's answer frees the place.

        Returns:
            The steps that wait behind a start that has failed; they cannot be run.
        """
        live = pending.sequence
        step = pending.header.sequence
        if live is None or step is None or live.is_over:
            return []
        live.in_flight -= 1
        live.last_at = now
        if step.start and has_failed:
            return self.drop(live, "failed", "its start has failed")
        if live.in_flight:
            return []
        if live.ending and not live.steps:
            # A last step that has failed may not have reached the model.
            return self.drop(live, "ended", "it was ended", is_told=step.end and not has_failed)
        self._note_ready(live)
        return []

    def expire(self, now: float) -> None:
        """End the sequences that had nothing to do for too long."""
        for sequence in list(self._live.values()):
            if not sequence.steps and not sequence.in_flight and now - sequence.last_at >= self.idle_s:
                self.drop(sequence, "idle", f"it was idle for {self.idle_s:g} s (sequence_idle_s)")

    def lost(self, instance: Instance, why: str) -> list[Pending]:
        """The instance is gone and its sequences with it; returns their waiting steps."""
        self._has_changed = True
        held = list(self._held.pop(instance.name, {}).values())
        self._ready.pop(instance.name, None)
        self._due.pop(instance.name, None)
        return [p for s in held for p in self.drop(s, "failed", why, is_told=True)]

    def gone(self, client: str) -> list[Pending]:
        """The client has left; returns the waiting steps of its sequences."""
        mine = list(self._clients.get(client, {}).values())
        return [p for s in mine for p in self.drop(s, "client_gone", "its client has left")]

    def clients(self) -> list[str]:
        """The clients that have sequences."""
        return list(self._clients)

    def drop(self, sequence: Sequence, reason: str, why: str, *, is_told: bool = False) -> list[Pending]:
        """End a sequence; returns its steps that were still waiting.

        Args:
            sequence: A live one.
            reason: What the model is told: ended, idle, client_gone or failed.
            why: What a client is told that goes on with it.
            is_told: The instance knows, or is gone.
        """
        sequence.is_over = True
        key = sequence.key
        self._ended.keep(key, (why, reason != "ended"))
        if self._live.get(key) is sequence:
            del self._live[key]
        mine = self._clients.get(key[0])
        if mine is not None and mine.get(key) is sequence:
            del mine[key]
            if not mine:
                del self._clients[key[0]]
        instance = sequence.instance
        if instance is None:
            self._waiting_count -= 1
        else:
            held = self._held.get(instance.name, {})
            if held.get(key) is sequence:
                del held[key]
            instance.sequences = len(held)
            self._has_changed = True
            if sequence.has_begun and not is_told and instance.mode is not InstanceMode.LEFT:
                self.endings.append(Ending(instance, key, reason))
        steps = list(sequence.steps)
        sequence.steps.clear()
        for pending in steps:
            pending.state = State.NEW
            self._forget(pending)
        return steps

    def drain(self, why: str) -> list[Pending]:
        """End everything; returns all waiting steps."""
        return [p for s in list(self._live.values()) for p in self.drop(s, "failed", why)]

    def waiting(self) -> int:
        """Sequences without a place."""
        return self._waiting_count

    def oldest(self) -> Pending | None:
        """The step that has waited longest."""
        return min((s.steps[0] for s in self._live.values() if s.steps), key=lambda p: p.arrival, default=None)

    def _note_ready(self, sequence: Sequence) -> None:
        """A sequence's first waiting step has changed, or nothing of it is in flight any more."""
        instance = sequence.instance
        if instance is None or sequence.in_flight or not sequence.steps:
            return
        ready = self._ready.setdefault(instance.name, [])
        heapq.heappush(ready, (sequence.steps[0].arrival, next(_notes), sequence))
        self._due[instance.name] = instance

    def _not_live(self, key: Key, live: Sequence | None) -> InferoxyError:
        why, is_lost = (
            ("its last request was sent already", False) if live is not None else self._ended.get(key, ("", False))
        )
        if why:
            what = f"the sequence has ended, {why}; start it anew"
        else:  # nobody can tell these apart: ends are not remembered for ever, and not beyond a restart
            what = "expected sequence_start first: it was never started here, or its state is gone"
        code = Code.SEQUENCE_LOST if is_lost else Code.SEQUENCE_UNKNOWN
        return InferoxyError(f"sequence_id {key[1]!r}: {what}", code)

    def _forget(self, pending: Pending) -> None:
        self.count -= 1
        self.bytes -= pending.header.size
