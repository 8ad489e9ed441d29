"""Stateful models: which instance a sequence holds, and its next batch.

Pure: callers pass `now`. A sequence holds one of an instance's places from its first request to its end; its requests
run in order and share batches only with each other.
Invariants: a sequence has at most one batch in flight; an instance never holds more sequences than its places; starts
wait in arrival order when no place is free.
"""

from collections import deque
from collections.abc import Iterable

from batch_manager.dispatcher import Instance
from batch_manager.queues import Pending, State
from inferoxy.errors import InvalidRequest

SequenceId = int | str


class Sequence:
    """One live sequence. `steps` wait, in order; `instance` is None while it waits for a place."""

    __slots__ = ("ending", "id", "in_flight", "instance", "last_at", "steps")

    def __init__(self, sequence_id: SequenceId, now: float) -> None:
        self.id = sequence_id
        self.instance: Instance | None = None
        self.steps: deque[Pending] = deque()
        self.in_flight = 0
        self.last_at = now
        self.ending = False


class SequenceBatcher:
    """Sequences of one stateful model version."""

    def __init__(self, limit: int, places: int, idle_s: float) -> None:
        self.limit = limit
        self.places = places
        self.idle_s = idle_s
        self.count = 0
        self.bytes = 0
        self._live: dict[SequenceId, Sequence] = {}
        self._waiting: deque[Sequence] = deque()
        self._held: dict[str, dict[SequenceId, Sequence]] = {}

    def __len__(self) -> int:
        return self.count

    def push(self, pending: Pending, now: float) -> list[Pending]:
        """Take a request in; returns the steps of an older sequence of that id, which a new start has replaced.

        Raises:
            InvalidRequest: It carries no sequence, or is a step of a sequence that is not live.
        """
        step = pending.header.sequence
        if step is None or step.id in (0, ""):
            raise InvalidRequest("sequence_id: expected one for a stateful model, found none")
        live = self._live.get(step.id)
        replaced: list[Pending] = []
        if step.start:
            if live is not None:
                replaced = self.drop(live)
            live = self._live[step.id] = Sequence(step.id, now)
            self._waiting.append(live)
        elif live is None or live.ending:
            raise InvalidRequest(f"sequence_id {step.id!r}: expected a live sequence or sequence_start, found neither")
        live.steps.append(pending)
        live.last_at = now
        live.ending = step.end
        pending.state = State.QUEUED
        self.count += 1
        self.bytes += pending.header.size
        return replaced

    def discard(self, pending: Pending) -> None:
        """Take out a request that was cancelled or has expired; the sequence lives on."""
        step = pending.header.sequence
        live = self._live.get(step.id) if step else None
        if live is not None and pending in live.steps:
            live.steps.remove(pending)
            self._forget(pending)
            if live.ending and not live.steps and not live.in_flight:
                self.drop(live)

    def assign(self, free: Iterable[Instance]) -> None:
        """Give waiting sequences the free places of these instances, in order."""
        for instance in free:
            held = self._held.setdefault(instance.name, {})
            while self._waiting and len(held) < self.places:
                sequence = self._waiting.popleft()
                if self._live.get(sequence.id) is not sequence:
                    continue
                sequence.instance = instance
                held[sequence.id] = sequence
                instance.sequences = len(held)

    def take(self, instance: Instance) -> list[Pending]:
        """The next batch for this instance: consecutive requests of the sequence that has waited longest."""
        held = self._held.get(instance.name, {})
        ready = [s for s in held.values() if s.steps and not s.in_flight]
        if not ready:
            return []
        sequence = min(ready, key=lambda s: s.steps[0].arrival)
        batch: list[Pending] = []
        while sequence.steps and len(batch) < self.limit:
            pending = sequence.steps.popleft()
            self._forget(pending)
            pending.state = State.IN_FLIGHT
            batch.append(pending)
        sequence.in_flight = len(batch)
        return batch

    def answered(self, pending: Pending, now: float) -> None:
        """A step got its final answer; the last step's answer frees the place."""
        step = pending.header.sequence
        live = self._live.get(step.id) if step else None
        if live is None or live.instance is None or not live.in_flight:
            return
        live.in_flight -= 1
        live.last_at = now
        if step is not None and step.end and not live.steps and not live.in_flight:
            self.drop(live)

    def expired(self, now: float) -> list[Sequence]:
        """Sequences that had nothing to do for too long; the caller ends them."""
        return [s for s in self._live.values() if not s.steps and not s.in_flight and now - s.last_at >= self.idle_s]

    def lost(self, instance: Instance) -> list[Pending]:
        """The instance is gone and its sequences with it; returns their waiting steps."""
        return [p for s in list(self._held.pop(instance.name, {}).values()) for p in self.drop(s)]

    def drop(self, sequence: Sequence) -> list[Pending]:
        """End a sequence; returns the steps that were still waiting."""
        if self._live.get(sequence.id) is sequence:
            del self._live[sequence.id]
        if sequence.instance is not None:
            held = self._held.get(sequence.instance.name, {})
            if held.get(sequence.id) is sequence:
                del held[sequence.id]
            sequence.instance.sequences = len(held)
        steps = list(sequence.steps)
        sequence.steps.clear()
        for pending in steps:
            self._forget(pending)
        return steps

    def drain(self) -> list[Pending]:
        """End everything; returns all waiting steps."""
        return [p for s in list(self._live.values()) for p in self.drop(s)]

    def waiting(self) -> int:
        """Sequences without a place."""
        return sum(1 for s in self._waiting if self._live.get(s.id) is s)

    def oldest(self) -> Pending | None:
        """The step that has waited longest."""
        return min((s.steps[0] for s in self._live.values() if s.steps), key=lambda p: p.arrival, default=None)

    def _forget(self, pending: Pending) -> None:
        self.count -= 1
        self.bytes -= pending.header.size
