"""How requests were served, from the server's own timings in some of the answers."""

from typing import Any

from inferoxy.bench.histogram import Histogram
from inferoxy.client.results import Served

PER_SECOND = 200  # answers that are looked at; each costs the generator some tens of microseconds


class Samples:
    """Queue, compute and decode times, and batch sizes.

    `mean_batch` is requests per batch as the model saw it: the harmonic mean, because a batch of n is seen n times.
    """

    def __init__(self) -> None:
        self.queue = Histogram()
        self.compute = Histogram()
        self.decode = Histogram()
        self.count = 0
        self._batches = 0.0

    @property
    def mean_batch(self) -> float:
        """0.0 when nothing was sampled, or the server tells no batch sizes."""
        return self.count / self._batches if self._batches else 0.0

    def take(self, served: Served) -> None:
        """Take one answer in."""
        if served.batch_size < 1:
            return
        self.count += 1
        self._batches += 1 / served.batch_size
        self.queue.add([served.queue_ms / 1e3])
        self.compute.add([served.compute_ms / 1e3])
        self.decode.add([served.decode_ms / 1e3])

    def merge(self, other: "Samples") -> None:
        """Take in all that the other has."""
        self.count += other.count
        self._batches += other._batches
        self.queue.merge(other.queue)
        self.compute.merge(other.compute)
        self.decode.merge(other.decode)

    def to_dict(self) -> dict[str, Any]:
        """Everything, JSON-able."""
        return {
            "count": self.count,
            "batches": self._batches,
            "queue": self.queue.to_dict(),
            "compute": self.compute.to_dict(),
            "decode": self.decode.to_dict(),
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Samples":
        """The samples that `to_dict` described."""
        made = cls()
        made.count, made._batches = content["count"], content["batches"]
        made.queue = Histogram.from_dict(content["queue"])
        made.compute = Histogram.from_dict(content["compute"])
        made.decode = Histogram.from_dict(content["decode"])
        return made


class Stride:
    """Says which answers to look at: every n-th, n odd so that it does not beat with batch sizes."""

    def __init__(self) -> None:
        self._every = 1
        self._left = 1

    def set_rate(self, per_second: float) -> None:
        """About PER_SECOND of so many."""
        self._every = self._left = max(1, round(per_second / PER_SECOND)) | 1

    def next(self) -> bool:
        """Whether to look at the answer to the request that is being sent."""
        self._left -= 1
        if self._left:
            return False
        self._left = self._every
        return True
