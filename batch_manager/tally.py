"""What has become of one model version's requests since the batch manager began: counts and time spent.

Pure. Counters only, in microseconds; smoothed figures for decisions are model_state.py's.
Invariant: a request is counted once, with its final answer; one that its client took back is not counted.
"""

from batch_manager.dispatcher import InFlight
from batch_manager.queues import Pending
from inferoxy.messages import BatchStatistics, ModelStatistics, Spent

MAX_SIZES = 1_024  # batch sizes that are told apart


class _OfSize:
    __slots__ = ("compute_us", "count", "decode_us")

    def __init__(self) -> None:
        self.count = 0
        self.decode_us = 0
        self.compute_us = 0


class Tally:
    """The counters."""

    __slots__ = (
        "_answered_at",
        "_compute_us",
        "_decode_us",
        "_fail_us",
        "_fails",
        "_inferences",
        "_queue_us",
        "_sizes",
        "_success_us",
        "_successes",
    )

    def __init__(self, now: float) -> None:
        self._answered_at = now
        self._successes = self._fails = self._inferences = 0
        self._success_us = self._fail_us = 0
        self._queue_us = self._decode_us = self._compute_us = 0
        self._sizes: dict[int, _OfSize] = {}

    def succeeded(self, pending: Pending, decode_us: int, compute_us: int, now: float) -> None:
        """A request was answered by the model, in a batch that took so long."""
        self._successes += 1
        self._success_us += int((now - pending.arrived_at) * 1e6)
        self._queue_us += pending.queue_us
        self._decode_us += decode_us
        self._compute_us += compute_us
        self._inferences += pending.rows
        self._answered_at = now

    def failed(self, pending: Pending, now: float) -> None:
        """A request was answered with an error."""
        self._fails += 1
        self._fail_us += int((now - pending.arrived_at) * 1e6)
        self._answered_at = now

    def ran(self, batch: InFlight, decode_us: int, compute_us: int) -> None:
        """A batch is done."""
        of_size = self._sizes.get(batch.rows)
        if of_size is None:
            if len(self._sizes) >= MAX_SIZES:
                return
            of_size = self._sizes[batch.rows] = _OfSize()
        of_size.count += 1
        of_size.decode_us += decode_us
        of_size.compute_us += compute_us

    def statistics(self, model: str, version: str, now: float) -> ModelStatistics:
        """All of it."""
        return ModelStatistics(
            model=model,
            model_version=version,
            idle_us=int((now - self._answered_at) * 1e6) if self._successes or self._fails else -1,
            inferences=self._inferences,
            executions=sum(of_size.count for of_size in self._sizes.values()),
            success=Spent(self._successes, self._success_us),
            fail=Spent(self._fails, self._fail_us),
            queue=Spent(self._successes, self._queue_us),
            decode=Spent(self._successes, self._decode_us),
            compute=Spent(self._successes, self._compute_us),
            batches=[
                BatchStatistics(size, Spent(of.count, of.decode_us), Spent(of.count, of.compute_us))
                for size, of in sorted(self._sizes.items())
            ],
        )
