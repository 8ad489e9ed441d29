"""What happens to requests, as a stream of events: enqueued, dispatched, executed, dropped, shed.

Pure: callers pass `now`; writing them to a file is event_log.py's. Events wait in a ring until they are taken; when it
is full the oldest make room and are counted, so memory is bounded whoever reads.
"""

from collections import deque
from typing import Any

from batch_manager.dispatcher import InFlight, Instance
from batch_manager.queues import Pending
from inferoxy.errors import Code

MAX_EVENTS = 65_536

_SHED = frozenset({Code.SHED, Code.QUEUE_FULL})


class Telemetry:
    """The ring of events. Each is a dict that JSON can hold; `at_s` is monotonic."""

    def __init__(self, at_most: int = MAX_EVENTS) -> None:
        self.lost = 0  # events that made room for newer ones, untaken
        self._events: deque[dict[str, Any]] = deque(maxlen=at_most)

    def __len__(self) -> int:
        return len(self._events)

    def take(self) -> list[dict[str, Any]]:
        """Remove and return the events, the oldest first. May be called in another thread than the rest."""
        events = []
        for _ in range(len(self._events)):
            try:
                events.append(self._events.popleft())
            except IndexError:
                break
        return events

    def enqueued(self, pending: Pending, waiting: int, now: float) -> None:
        """A request was accepted; so many of its model wait now."""
        self._add("enqueued", pending, now, priority=pending.priority, waiting=waiting, bytes=pending.header.size)

    def dispatched(self, model: Any, instance: Instance, batch: InFlight, now: float) -> None:
        """A batch was sent."""
        for pending in batch.requests:
            if pending is not None:
                waited_ms = round((now - pending.arrived_at) * 1e3, 3)
                self._add(
                    "dispatched", pending, now, instance=instance.name, device=instance.device.name, batch=batch.id,
                    batch_size=batch.size, closed=str(batch.closed), waited_ms=waited_ms,
                )  # fmt: skip

    def executed(self, pending: Pending, instance: Instance, batch: InFlight, code: str, now: float) -> None:
        """A request was answered by the model; `code` is empty for success."""
        latency_ms = round((now - pending.arrived_at) * 1e3, 3)
        self._add(
            "executed", pending, now, instance=instance.name, batch=batch.id, latency_ms=latency_ms, code=str(code)
        )

    def dropped(self, pending: Pending, code: Code, reason: str, now: float) -> None:
        """A request was answered without the model: shed for too much load, or dropped for another reason."""
        kind = "shed" if code in _SHED else "dropped"
        waited_ms = round((now - pending.arrived_at) * 1e3, 3)
        self._add(kind, pending, now, code=code.value, reason=reason, waited_ms=waited_ms)

    def _add(self, kind: str, pending: Pending, now: float, **more: Any) -> None:
        header, events = pending.header, self._events
        self.lost += len(events) == events.maxlen
        event: dict[str, Any] = {
            "event": kind,
            "at_s": now,
            "model": header.model,
            "version": pending.model.spec.version if pending.model is not None else header.model_version,
            "request_id": header.request_id,
        }
        if header.sequence is not None:
            event["sequence_id"] = header.sequence.id
        event.update(more)
        events.append(event)
