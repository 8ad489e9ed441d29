"""Durations counted in buckets whose width grows with the value, so that every percentile has the same relative error.

Invariant: a percentile is within RELATIVE_ERROR of the value that a sorted list of all durations would give, as long as
that is between LOWEST_S and HIGHEST_S.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

RELATIVE_ERROR = 0.005
LOWEST_S = 1e-6
HIGHEST_S = 3_600.0

_STEP = 2 * math.log1p(RELATIVE_ERROR)  # a bucket's middle is off its edges by the relative error
_BUCKETS = math.ceil(math.log(HIGHEST_S / LOWEST_S) / _STEP) + 1


class Histogram:
    """Counts of durations in seconds; smallest, largest and sum are exact."""

    def __init__(self) -> None:
        self.count = 0
        self.total_s = 0.0
        self.least_s = math.inf
        self.most_s = 0.0
        self._counts: NDArray[np.int64] = np.zeros(_BUCKETS, np.int64)

    def add(self, durations_s: ArrayLike) -> None:
        """Count these durations; cheap for many at once."""
        values = np.asarray(durations_s, np.float64)
        if not values.size:
            return
        self.count += values.size
        self.total_s += float(values.sum())
        self.least_s = min(self.least_s, float(values.min()))
        self.most_s = max(self.most_s, float(values.max()))
        inside = np.clip(values, LOWEST_S, HIGHEST_S)
        self._counts += np.bincount((np.log(inside / LOWEST_S) / _STEP).astype(np.int64), minlength=_BUCKETS)

    def merge(self, other: "Histogram") -> None:
        """Count everything that the other has counted."""
        self.count += other.count
        self.total_s += other.total_s
        self.least_s = min(self.least_s, other.least_s)
        self.most_s = max(self.most_s, other.most_s)
        self._counts += other._counts

    def percentile(self, percent: float) -> float:
        """The smallest duration that at least `percent` (0..100) of all do not exceed; 0.0 when there are none."""
        if not self.count:
            return 0.0
        rank = min(self.count, max(1, math.ceil(percent / 100 * self.count)))
        bucket = int(np.searchsorted(np.cumsum(self._counts), rank))
        return min(max(LOWEST_S * math.exp((bucket + 0.5) * _STEP), self.least_s), self.most_s)

    @property
    def mean_s(self) -> float:
        """The mean duration; 0.0 when there are none."""
        return self.total_s / self.count if self.count else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Everything that was counted, JSON-able."""
        used = np.flatnonzero(self._counts)
        return {
            "count": self.count,
            "total_s": self.total_s,
            "least_s": self.least_s if self.count else 0.0,
            "most_s": self.most_s,
            "buckets": used.tolist(),
            "counts": self._counts[used].tolist(),
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Histogram":
        """The histogram that `to_dict` described."""
        made = cls()
        made.count = content["count"]
        made.total_s = content["total_s"]
        made.least_s = content["least_s"] if made.count else math.inf
        made.most_s = content["most_s"]
        made._counts[content["buckets"]] = content["counts"]
        return made


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """All of them in one."""
    whole = Histogram()
    for one in histograms:
        whole.merge(one)
    return whole
