"""When requests are sent, and which moments count: closed loop and open loop.

Pure: callers pass `now` (monotonic seconds) and a `send(slot, number)` that begins request `number` on a slot; a slot
has one request in flight.
Closed loop: each slot sends its next request when it has its answer. Open loop: requests arrive on a schedule that the
server cannot slow down, and latency counts from the *intended* instant. A request that finds no free slot waits for one
with its clock running; one that is never answered counts with the time until it was given up. That is the correction
for coordinated omission: a server that stalls for a second is charged for all that should have been sent in it.
Invariant: each request is counted once, by the instant it was answered (closed) or intended (open).

Hot path: `answered`. It appends to lists; what is made of them is Tally.flush's.
"""

import itertools
import random
from collections import deque
from collections.abc import Callable, Iterator

from inferoxy.bench.histogram import Histogram

NEVER = float("inf")
NO_ANSWER = "NO_ANSWER"

Send = Callable[[int, int], None]


class Tally:
    """What is counted between two instants, `begin` and `end`."""

    def __init__(self, begin: float, end: float) -> None:
        self.begin = begin
        self.end = end
        self.latency = Histogram()
        self.lateness = Histogram()  # the generator's own: from the intended instant to sending on a free slot
        self.failures: dict[str, int] = {}
        self.completed = 0  # answers that came between begin and end, whenever their requests were intended
        self.latencies: list[float] = []
        self.latenesses: list[float] = []

    def flush(self) -> None:
        """Move what was collected since the last flush into the histograms."""
        self.latency.add(self.latencies)
        self.lateness.add(self.latenesses)
        self.latencies.clear()
        self.latenesses.clear()

    def fail(self, code: str) -> None:
        """Count a request that was not answered as it should have been."""
        self.failures[code] = self.failures.get(code, 0) + 1


class ClosedLoop:
    """Every slot sends the next request when it has its answer, until the end of the tally."""

    def __init__(self, slots: int, send: Send, tally: Tally) -> None:
        self.open = 0
        self._slots = slots
        self._send = send
        self._tally = tally
        self._began = [0.0] * slots
        self._numbers = itertools.count()

    def begin(self, now: float) -> None:
        """Send the first request of every slot."""
        self.open = self._slots
        for slot in range(self._slots):
            self._began[slot] = now
            self._send(slot, next(self._numbers))

    def next_due(self) -> float:
        """When `due` has something to do: never."""
        return NEVER

    def due(self, now: float) -> None:
        """Nothing is ever due."""

    def answered(self, slot: int, now: float, code: str) -> None:
        """A slot has its answer; the code is empty for success."""
        tally = self._tally
        if tally.begin <= now < tally.end:
            if code:
                tally.fail(code)
            else:
                tally.completed += 1
                tally.latencies.append(now - self._began[slot])
        elif now >= tally.end:
            self.open -= 1
            return
        self._began[slot] = now
        self._send(slot, next(self._numbers))

    def give_up(self, now: float) -> None:
        """What is still open when nobody waits any longer; one without any answer in all the time is a failure."""
        for _ in range(self.open):
            self._tally.fail(NO_ANSWER)
        self.open = 0


class OpenLoop:
    """Requests are sent when the schedule says so.

    Args:
        arrivals: Instants, never decreasing; those from the tally's end on are left.
        slots: Requests in flight at the most.
        send: Begins a request.
        tally: Where to count.
    """

    def __init__(self, arrivals: Iterator[float], slots: int, send: Send, tally: Tally) -> None:
        self.waited = 0  # requests that found no free slot
        self._arrivals = arrivals
        self._send = send
        self._tally = tally
        self._free = list(range(slots - 1, -1, -1))  # the last used is the next used: connections stay warm
        self._intended: dict[int, float] = {}
        self._waiting: deque[float] = deque()
        self._numbers = itertools.count()
        self._next = NEVER
        self._advance()

    @property
    def open(self) -> int:
        """Requests that are in flight or wait for a slot."""
        return len(self._intended) + len(self._waiting)

    def begin(self, now: float) -> None:
        """Send what is due."""
        self.due(now)

    def next_due(self) -> float:
        """The instant of the next arrival."""
        return self._next

    def due(self, now: float) -> None:
        """Send every request whose instant has come."""
        while self._next <= now:
            if self._free:
                if self._tally.begin <= self._next:
                    self._tally.latenesses.append(now - self._next)
                self._start(self._free.pop(), self._next)
            else:
                self.waited += 1
                self._waiting.append(self._next)
            self._advance()

    def answered(self, slot: int, now: float, code: str) -> None:
        """A slot has its answer; the code is empty for success."""
        tally = self._tally
        intended = self._intended.pop(slot)
        if tally.begin <= now < tally.end and not code:
            tally.completed += 1
        if tally.begin <= intended:
            if code:
                tally.fail(code)
            else:
                tally.latencies.append(now - intended)
        if self._waiting:
            self._start(slot, self._waiting.popleft())
        else:
            self._free.append(slot)

    def give_up(self, now: float) -> None:
        """Count what is still open as failed, and its time until now as a latency that it has at least."""
        for intended in (*self._intended.values(), *self._waiting):
            if self._tally.begin <= intended:
                self._tally.fail(NO_ANSWER)
                self._tally.latencies.append(now - intended)
        self._intended.clear()
        self._waiting.clear()

    def _start(self, slot: int, intended: float) -> None:
        self._intended[slot] = intended
        self._send(slot, next(self._numbers))

    def _advance(self) -> None:
        self._next = next(self._arrivals, NEVER)
        if self._next >= self._tally.end:
            self._next = NEVER


def even(begin: float, rate: float, *, share: int = 0, shares: int = 1) -> Iterator[float]:
    """Arrivals at equal distances.

    Args:
        begin: The first instant.
        rate: Arrivals per second of all shares together.
        share: Which of the interleaved shares this is.
        shares: How many there are.
    """
    return (begin + number / rate for number in itertools.count(share, shares))


def poisson(begin: float, rate: float, seed: int) -> Iterator[float]:
    """Arrivals of independent users: exponential distances, the same for the same seed."""
    chance, now = random.Random(seed), begin
    while True:
        now += chance.expovariate(rate)
        yield now
