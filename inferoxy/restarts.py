"""When a supervised process that has ended is started again, and when to give up.

Pure: callers pass `now`, monotonic seconds.
Invariant: the wait doubles with every early end up to a bound, and starts over after a process has lived long enough.
"""

from enum import Enum

FIRST_WAIT_S = 0.02
LONGEST_WAIT_S = 5.0
LIVED_LONG_S = 10.0
STARTS_BEFORE_READY = 5  # ends in a row of a process that was never ready, after which the stack is given up


class State(Enum):
    """Where a supervised process is in its life."""

    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"  # ended, to be started again
    STOPPING = "stopping"
    ENDED = "ended"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.STARTING: frozenset({State.READY, State.WAITING, State.STOPPING, State.ENDED}),
    State.READY: frozenset({State.WAITING, State.STOPPING, State.ENDED}),
    State.WAITING: frozenset({State.STARTING, State.ENDED}),
    State.STOPPING: frozenset({State.ENDED}),
    State.ENDED: frozenset({State.STARTING}),
}


class Restarts:
    """The restarts of one process."""

    def __init__(self) -> None:
        self.count = 0
        self.was_ready = False
        self._early_ends = 0
        self._started = 0.0

    def started(self, now: float) -> None:
        """It was started."""
        self._started = now

    def ready(self) -> None:
        """It does its work."""
        self.was_ready = True

    def ended(self, now: float) -> float:
        """It has ended, unasked.

        Returns:
            Seconds to wait before it is started again.
        """
        if now - self._started >= LIVED_LONG_S:
            self._early_ends = 0
        wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0**self._early_ends)
        self._early_ends = min(self._early_ends + 1, 16)
        self.count += 1
        return wait_s

    @property
    def hopeless(self) -> bool:
        """Whether it has never been ready and has ended too often for another try to make sense."""
        return not self.was_ready and self.count >= STARTS_BEFORE_READY
