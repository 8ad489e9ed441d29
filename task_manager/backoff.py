"""How a model's past failures delay its next launch.

Pure. The first crash of an instance that had served delays nothing; every failure to load, and every further crash in
a row, doubles the delay from FIRST_S up to LONGEST_S. A run of GOOD_RUN_S ends the row. Instances that were launched
before the last failure belong to the same round and count once: four that die together are one failure.
"""

from dataclasses import dataclass

FIRST_S = 0.5
LONGEST_S = 60.0
GOOD_RUN_S = 60.0
BEARABLE_S = 2.0  # a wait up to this is no reason to refuse requests after a crash
_NEVER = float("-inf")


@dataclass(slots=True)
class History:
    """What happened to a model's instances. `error` is why the last one failed; empty once one has loaded since."""

    failures: int = 0
    failed_at: float = _NEVER
    retry_at: float = _NEVER
    error: str = ""
    is_load_failure: bool = False
    load_s: float = 0.0  # how long the last start took; 0: unknown

    def loaded(self, load_s: float) -> None:
        """An instance became ready, `load_s` after its launch (0: it was adopted)."""
        self.error = ""
        self.is_load_failure = False
        self.retry_at = _NEVER
        if load_s > 0:
            self.load_s = load_s

    def load_failed(self, error: str, launched_at: float, now: float) -> None:
        """An instance could not be launched, or ended before it was ready."""
        self._failed(error, launched_at, now, free=0)
        self.is_load_failure = True

    def crashed(self, error: str, launched_at: float, ran_s: float, now: float) -> None:
        """An instance that had been ready for `ran_s` ended by itself."""
        if ran_s >= GOOD_RUN_S and launched_at >= self.failed_at:
            self.failures = 0
        self._failed(error, launched_at, now, free=1)
        self.is_load_failure = False

    def ended(self, ran_s: float) -> None:
        """An instance that had been ready for `ran_s` ended because it was told to."""
        if ran_s >= GOOD_RUN_S:
            self.failures = 0

    def forgive(self) -> None:
        """Try again at once: somebody asked for it, or the model has changed."""
        self.failures = 0
        self.error = ""
        self.is_load_failure = False
        self.retry_at = _NEVER

    def waits(self, now: float) -> bool:
        """Whether it is too early for another launch."""
        return now < self.retry_at

    def refuses(self, now: float) -> bool:
        """Whether requests should be refused rather than held until the next launch."""
        return self.waits(now) and (self.is_load_failure or self.retry_at - self.failed_at > BEARABLE_S)

    def _failed(self, error: str, launched_at: float, now: float, free: int) -> None:
        self.error = error
        if self.failures and launched_at < self.failed_at:
            return
        self.failures += 1
        self.failed_at = now
        doublings = self.failures - 1 - free
        delay = min(LONGEST_S, FIRST_S * 2.0 ** min(doublings, 30)) if doublings >= 0 else 0.0
        self.retry_at = now + delay
