"""When a stateless model's next batch is due, and which requests are in it.

Pure: callers pass `now`. The order of requests is queues.py's; choosing an instance is dispatcher.py's.
Pull policy: a batch is formed when an instance can take one. An idle instance takes whatever waits once the oldest
request has waited `delay_s`; a busy one is sent its next batch only if that batch is full.

Source: Triton user guide, "Delayed Batching"; the pull rule keeps partial batches growing to the last moment.
"""

from batch_manager.queues import Pending, RequestQueue
from inferoxy.messages import CloseReason

_GUESS_COMPUTE_S = 0.0  # nothing is known of a model before its first batch


class DynamicBatcher:
    """Groups one stateless model's requests into batches."""

    def __init__(self, queue: RequestQueue, delay_s: float = 0.0) -> None:
        self.queue = queue
        self.delay_s = delay_s
        self.compute_s = _GUESS_COMPUTE_S  # of a batch, smoothed; kept by serving.py

    def due_at(self) -> float | None:
        """The instant at which an idle instance should take what waits; None when nothing waits."""
        oldest = self.queue.oldest()
        if oldest is None:
            return None
        if not self.delay_s or self.queue.is_head_full():
            return oldest.arrived_at
        head = self.queue.head()
        latest_start = (head or oldest).due_at - self.compute_s
        return min(oldest.arrived_at + self.delay_s, max(oldest.arrived_at, latest_start))

    def take(self, now: float, at_most: int | None = None) -> tuple[list[Pending], CloseReason] | None:
        """The batch for an idle instance and why it was closed, or None while waiting may still pay.

        Args:
            now: Monotonic seconds.
            at_most: Items, where it must not be longer.
        """
        due = self.due_at()
        if due is None or due > now:
            return None
        oldest = self.queue.oldest()
        is_full = self.queue.is_head_full()
        waited = oldest is not None and now >= oldest.arrived_at + self.delay_s
        batch = self.queue.take(at_most=at_most)
        if not batch:
            return None
        if batch[0].deaths:
            return batch, CloseReason.ALONE
        if is_full:
            return batch, CloseReason.FULL
        if not self.delay_s:
            return batch, CloseReason.IDLE
        return batch, CloseReason.DELAY if waited else CloseReason.DEADLINE

    def take_full(self) -> list[Pending]:
        """A full batch for an instance that is still busy, or nothing."""
        return self.queue.take(full_only=True) if self.queue.is_full() else []
