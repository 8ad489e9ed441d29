"""When a stream's next request is to be expected, learned from the arrivals before.

Pure: callers pass `now`. Requests that come together, the frames of several cameras say, are one beat. The period is
the median of the last gaps between beats; a stream that is late by one and a half periods, or by its model's latency
budget, has ended.
"""

from collections import deque
from statistics import median

KEPT_GAPS = 8
LATE_PERIODS = 1.5  # what a request may be late before the stream counts as over
TOGETHER_S = 0.001  # requests that are closer came together
LONE_S = 0.1  # where there is no budget: how long a single request may be the beginning of a stream, and one be late
LONGEST_S = 10.0  # between requests that are a stream


class Rhythm:
    """The arrivals of one model's requests."""

    __slots__ = ("_beat_at", "_gaps", "_jitter_s", "_lone_s", "_period_s")

    def __init__(self) -> None:
        self._beat_at = float("-inf")
        self._gaps: deque[float] = deque(maxlen=KEPT_GAPS)
        self._period_s = 0.0
        self._jitter_s = 0.0
        self._lone_s = LONE_S

    def arrived(self, now: float, budget_s: float, service_s: float) -> None:
        """A request has come.

        Args:
            now: Monotonic seconds.
            budget_s: The model's latency budget; 0: none.
            service_s: What one of its batches takes; 0: not known. Requests closer than half of it are one beat.
        """
        gap = now - self._beat_at
        if gap < max(TOGETHER_S, service_s / 2):
            return
        self._lone_s = budget_s or LONE_S
        if gap > LONGEST_S or (self._period_s and now > self.ends_at()):
            self._gaps.clear()
            self._period_s = self._jitter_s = 0.0
        else:
            self._gaps.append(gap)
            self._period_s = median(self._gaps)
            self._jitter_s = min(max([abs(g - self._period_s) for g in self._gaps]), self._period_s / 2)
        self._beat_at = now

    def ends_at(self) -> float:
        """The instant from which on, without another request, no stream is to be expected any more."""
        if not self._period_s:
            return self._beat_at + self._lone_s
        return self._beat_at + self._period_s + min(LATE_PERIODS * self._period_s, self._lone_s)

    def expected_at(self, now: float) -> float | None:
        """The earliest instant at which the next request is to be expected; None when there is no stream."""
        if now >= self.ends_at():
            return None
        if not self._period_s:
            return now
        return max(now, self._beat_at + self._period_s - self._jitter_s)
