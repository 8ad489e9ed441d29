"""An instance's side of its talk with the batch manager: who says what, and when.

Pure: callers pass `now` (monotonic seconds) and send what is returned. Batches are not its business; it only learns
that the batch manager was heard.
Invariants: HELLO is repeated until WELCOME; a heartbeat is never later than `heartbeat_s` after the one before; the
session ends for good.
"""

from collections.abc import Sequence
from enum import Enum

from inferoxy import messages as m

SILENCE_S = 60.0  # without a word from the batch manager: nobody needs this instance any more
LEAVE_HEARTBEATS = 3  # missed ones after which an instance that wants to leave no longer waits for STOP
OK, REFUSED = 0, 78  # exit codes; 78 is EX_CONFIG of sysexits.h


class State(Enum):
    """Where the session is."""

    JOINING = "joining"
    SERVING = "serving"
    LEAVING = "leaving"
    ENDED = "ended"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.JOINING: frozenset({State.SERVING, State.ENDED}),
    State.SERVING: frozenset({State.JOINING, State.LEAVING, State.ENDED}),
    State.LEAVING: frozenset({State.ENDED}),
    State.ENDED: frozenset(),
}


class Session:
    """One instance's session.

    Attributes:
        state: Where it is.
        exit_code: What the process should end with, once ENDED.
        reason: Why it ended, for the log.
        is_let_go: It ended with the batch manager's STOP, so somebody is there for the last results.
        wakeup: When `tick` has something to do next.
    """

    def __init__(self, hello: m.Hello, now: float) -> None:
        self.state = State.JOINING
        self.exit_code = OK
        self.reason = ""
        self.is_let_go = False
        self.wakeup = now
        self._hello = hello
        self._heartbeat_s = 1.0
        self._epoch = 0
        self._heard = now

    @property
    def has_ended(self) -> bool:
        """Nothing more will come, and nothing but results of earlier batches is to be sent."""
        return self.state is State.ENDED

    def tick(self, now: float) -> Sequence[m.Header]:
        """What is due to be said."""
        if now < self.wakeup or self.state is State.ENDED:
            return ()
        self.wakeup = now + self._heartbeat_s
        if now - self._heard >= SILENCE_S:
            return self._end(f"no word from the batch manager for {SILENCE_S:.0f} s")
        if self.state is State.LEAVING and now - self._heard >= LEAVE_HEARTBEATS * self._heartbeat_s:
            return self._end("told to end, and the batch manager is not there to let go")
        if self.state is State.JOINING:
            return (self._hello,)
        return (m.Heartbeat(epoch=self._epoch),)

    def heard(self, now: float) -> None:
        """Something came from the batch manager."""
        self._heard = now

    def handle(self, message: m.Header, now: float) -> Sequence[m.Header]:
        """Answers to a message other than a batch."""
        self._heard = now
        if self.state is State.ENDED:
            return ()
        if isinstance(message, m.Welcome):
            return self._welcomed(message, now)
        if isinstance(message, m.Who):
            return self._asked_who(now)
        if isinstance(message, m.Stop):
            self.is_let_go = True
            return self._end("told to stop")
        return ()

    def leave(self) -> Sequence[m.Header]:
        """The process was told to end: ask the batch manager to let go, which it does when nothing is in flight."""
        if self.state is State.JOINING:
            return self._end("told to end before it was welcomed")
        if self.state is not State.SERVING:
            return ()
        self._go(State.LEAVING)
        return (m.Stop(),)

    def _welcomed(self, message: m.Welcome, now: float) -> Sequence[m.Header]:
        if message.error:
            self.exit_code = REFUSED
            return self._end(f"refused by the batch manager: {message.error}")
        self._epoch = message.epoch
        self._heartbeat_s = message.heartbeat_s if message.heartbeat_s > 0 else 1.0
        self.wakeup = min(self.wakeup, now + self._heartbeat_s)
        if self.state is State.JOINING:
            self._go(State.SERVING)
        return ()

    def _asked_who(self, now: float) -> Sequence[m.Header]:
        if self.state is State.LEAVING:
            return self._end("the batch manager was restarted and has nothing in flight here")
        if self.state is State.SERVING:
            self._go(State.JOINING)
        self.wakeup = now + self._heartbeat_s
        return (self._hello,)

    def _end(self, reason: str) -> Sequence[m.Header]:
        self._go(State.ENDED)
        self.reason = reason
        return ()

    def _go(self, state: State) -> None:
        if state not in TRANSITIONS[self.state]:
            raise ValueError(f"session: {self.state.value} cannot become {state.value}")
        self.state = state
