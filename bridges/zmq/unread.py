"""How much waits to be read by each client, so that one that does not read takes bounded memory.

Pure. ZeroMQ does not say what it still holds for a client, but it says when it has let go of a frame: with a few frames
marked, what was sent up to the last one that is gone is known to have left.
Invariant: what is taken to be unread is never less than what is, but for what was sent before a quiet second.
"""

from collections import deque
from collections.abc import Callable

MARK_BYTES = 262_144  # between marks: they cost more than a small answer

HasLeft = Callable[[], bool]


class _Client:
    __slots__ = ("is_quiet", "left", "marked", "marks", "sent")

    def __init__(self) -> None:
        self.sent = 0
        self.left = 0
        self.marked = 0
        self.marks: deque[tuple[int, HasLeft]] = deque()
        self.is_quiet = False


class Unread:
    """What was sent to all clients and has not left yet."""

    def __init__(self) -> None:
        self._clients: dict[bytes, _Client] = {}

    def add(self, client: bytes, size: int) -> bool:
        """A message of so many bytes is sent; returns whether its last frame is to be marked."""
        entry = self._clients.get(client)
        is_new = entry is None
        if entry is None:
            entry = self._clients[client] = _Client()
        entry.sent += size
        entry.is_quiet = False
        return is_new or entry.sent - entry.marked >= MARK_BYTES

    def mark(self, client: bytes, has_left: HasLeft) -> None:
        """The message that was added last is marked; `has_left` says whether it is gone."""
        entry = self._clients[client]
        entry.marked = entry.sent
        entry.marks.append((entry.sent, has_left))

    def bytes_of(self, client: bytes) -> int:
        """What waits for a client, at most; up to MARK_BYTES of it have left already."""
        entry = self._clients.get(client)
        if entry is None:
            return 0
        _settle(entry)
        return entry.sent - entry.left

    def forget_quiet(self) -> None:
        """To be called now and then: clients are forgotten that were sent nothing since the last time."""
        for client, entry in list(self._clients.items()):
            _settle(entry)
            if entry.is_quiet and not entry.marks:
                del self._clients[client]
            entry.is_quiet = True


def _settle(entry: _Client) -> None:
    marks = entry.marks
    while marks and marks[0][1]():
        entry.left = marks.popleft()[0]
