"""In what order the answers of one stream leave, and how much of it is held meanwhile.

Pure. A turn is one request of the stream with its answers. Sending them is conversation.py's.
Invariants: answers of turns in one lane leave in the order in which the turns began, those of one turn in the order in
which they came; a turn counts as open until its last answer has left.
"""

from collections import deque
from collections.abc import Hashable
from typing import Any, NamedTuple


class Turn:
    """One request; `lane` None: its answers wait for nobody."""

    __slots__ = ("is_over", "lane", "ready", "size")

    def __init__(self, lane: Hashable | None, size: int) -> None:
        self.lane = lane
        self.size = size
        self.is_over = False
        self.ready: list[Departure] = []


class Departure(NamedTuple):
    """One answer that leaves; `message` None: nothing is sent, the turn is over."""

    turn: Turn
    message: Any
    size: int
    is_last: bool


class Turns:
    """All turns of one stream.

    Attributes:
        open: Turns whose last answer has not left.
        bytes: Of open turns' requests and of answers that have not left.
        waiting: Answers that have not left.
        largest: Bytes of the largest answer so far.
    """

    def __init__(self) -> None:
        self.open = 0
        self.bytes = 0
        self.waiting = 0
        self.largest = 0
        self._lanes: dict[Hashable, deque[Turn]] = {}
        self._departures: deque[Departure] = deque()

    def begin(self, lane: Hashable | None, size: int) -> Turn:
        """A request was read.

        Args:
            lane: Turns with equal lanes are answered in order.
            size: Bytes that it holds until it is over.
        """
        turn = Turn(lane, size)
        self.open += 1
        self.bytes += size
        if lane is not None:
            self._lanes.setdefault(lane, deque()).append(turn)
        return turn

    def put(self, turn: Turn, message: Any, size: int, *, is_last: bool) -> None:
        """An answer is ready. Nothing happens if the turn is over already.

        Args:
            turn: Whose answer.
            message: To send; None with `is_last` when there is nothing more to say.
            size: Its bytes.
            is_last: Whether the turn is over with it.
        """
        if turn.is_over:
            return
        turn.is_over = is_last
        self.waiting += 1
        self.bytes += size
        self.largest = max(self.largest, size)
        departure = Departure(turn, message, size, is_last)
        if turn.lane is None or self._lanes[turn.lane][0] is turn:
            self._departures.append(departure)
            if is_last and turn.lane is not None:
                self._next_in(turn.lane)
        else:
            turn.ready.append(departure)

    def take(self) -> Departure | None:
        """Remove and return the next answer to send, or None while there is none; `left` follows."""
        return self._departures.popleft() if self._departures else None

    def left(self, departure: Departure) -> None:
        """An answer that was taken is on its way."""
        self.waiting -= 1
        self.bytes -= departure.size
        if departure.is_last:
            self.open -= 1
            self.bytes -= departure.turn.size

    def _next_in(self, lane: Hashable) -> None:
        """The first turn of a lane is over: those behind it may answer."""
        turns = self._lanes[lane]
        turns.popleft()
        while turns:
            first = turns[0]
            self._departures += first.ready
            first.ready = []
            if not first.is_over:
                return
            turns.popleft()
        del self._lanes[lane]
