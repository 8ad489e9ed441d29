"""Whether a model has already executed as many requests as its `target_fps` asks for.

Pure: callers pass `now`. A token bucket: it fills at the target rate, every executed request takes one token. Over its
target a model still runs whatever slots are left over; it only no longer goes before others that want them.
"""

BURST_S = 0.1  # of the target rate that may be made up for after a pause


class Pace:
    """One model's rate. `rate` 0: no target, never over it."""

    __slots__ = ("_at", "_tokens", "rate")

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._tokens = self._most()
        self._at = now

    def change(self, rate: float) -> None:
        """Another target holds from now on."""
        self.rate = rate
        self._tokens = min(self._tokens, self._most())

    def took(self, requests: int, now: float) -> None:
        """So many requests are being executed."""
        if self.rate:
            self._fill(now)
            self._tokens -= requests

    def is_over(self, now: float) -> bool:
        """Whether the target is reached for the moment."""
        if not self.rate:
            return False
        self._fill(now)
        return self._tokens <= 0

    def _fill(self, now: float) -> None:
        self._tokens = min(self._most(), self._tokens + (now - self._at) * self.rate)
        self._at = now

    def _most(self) -> float:
        return max(1.0, self.rate * BURST_S)
