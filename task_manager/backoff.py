"""How a model's past failures delay its next launch.

Pure. Every failure to load doubles the delay from FIRST_S up to LONGEST_S, and meanwhile requests are refused. An
instance that had served is missed at once: its first crash delays nothing, further ones in a row a little, up to
CRASH_LONGEST_S, because one poisonous request may have killed several and is known by then; only a long row of crashes
delays longer, up to CRASH_LOOP_S, and even then requests wait. A run of GOOD_RUN_S ends a row. Instances that were
launched before the last failure belong to the same round and count once: four that die together are one failure.
"""

from dataclasses import dataclass

FIRST_S = 0.5
LONGEST_S = 60.0
CRASH_FIRST_S = 0.1
CRASH_LONGEST_S = 0.4
CRASH_LOOP = 30  # crashes in a row from which on it is a loop
CRASH_LOOP_S = 5.0
GOOD_RUN_S = 30.0
_NEVER = float("-inf")


@dataclass(slots=True)
class History:
    """What happened to a model's instances. `error` is why the last one failed; empty once one has loaded since."""

    failures: int = 0  # to load, in a row
    crashes: int = 0  # after it had served, in a row
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
        self.error = error
        self.is_load_failure = True
        if self._is_new(launched_at):
            self.failures += 1
            self._wait(min(LONGEST_S, FIRST_S * 2.0 ** min(self.failures - 1, 30)), now)

    def crashed(self, error: str, launched_at: float, ran_s: float, now: float) -> None:
        """An instance that had been ready for `ran_s` ended by itself."""
        if ran_s >= GOOD_RUN_S and launched_at >= self.failed_at:
            self.failures = self.crashes = 0
        self.error = error
        self.is_load_failure = False
        if self._is_new(launched_at):
            self.crashes += 1
            longest_s = CRASH_LONGEST_S if self.crashes < CRASH_LOOP else CRASH_LOOP_S
            doubled_s = CRASH_FIRST_S * 2.0 ** min(self.crashes - 2, 30)
            self._wait(min(longest_s, doubled_s) if self.crashes > 1 else 0.0, now)

    def ended(self, ran_s: float) -> None:
        """An instance that had been ready for `ran_s` ended because it was told to."""
        if ran_s >= GOOD_RUN_S:
            self.failures = self.crashes = 0

    def forgive(self) -> None:
        """Try again at once: somebody asked for it, or the model has changed."""
        self.failures = self.crashes = 0
        self.error = ""
        self.is_load_failure = False
        self.retry_at = _NEVER

    def waits(self, now: float) -> bool:
        """Whether it is too early for another launch."""
        return now < self.retry_at

    def refuses(self, now: float) -> bool:
        """Whether requests should be refused rather than held until the next launch."""
        return self.waits(now) and self.is_load_failure

    def _is_new(self, launched_at: float) -> bool:
        """Whether a failure is not one of the last one's round."""
        return not (self.failures or self.crashes) or launched_at >= self.failed_at

    def _wait(self, delay_s: float, now: float) -> None:
        self.failed_at = now
        self.retry_at = now + delay_s
