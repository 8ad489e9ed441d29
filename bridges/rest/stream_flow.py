"""How many frames of a stream are under way, and which answer leaves next.

Pure. A frame is under way from the moment it is taken in until the last of its answers has been handed out for
writing, so that a client that does not read its answers is not read from either.
Invariants: with `in_order` answers leave in the order of their frames; a mark leaves behind everything before it in
both modes; every entry is given out to its end exactly once.
"""

from collections import deque
from collections.abc import Sequence

from bridges.rest.stream import Message


class Entry:
    """A frame, or a mark between frames."""

    __slots__ = ("is_done", "is_mark", "messages", "size")

    def __init__(self, size: int, is_mark: bool) -> None:
        self.size = size
        self.is_mark = is_mark
        self.is_done = False
        self.messages: list[Message] = []


class Flow:
    """The frames under way, oldest first.

    Args:
        window: The most of them.
        limit_bytes: There is room only while they have fewer bytes together.
        in_order: Whether answers leave in the order of the frames.
    """

    def __init__(self, window: int, limit_bytes: int, in_order: bool) -> None:
        self.held_bytes = 0  # of answers that have not left
        self._window = window
        self._limit_bytes = limit_bytes
        self._in_order = in_order
        self._count = 0
        self._bytes = 0
        self._entries: dict[Entry, None] = {}
        self._ready: deque[tuple[Message, Entry | None]] = deque()  # with the last message, the entry it is the last of

    @property
    def has_room(self) -> bool:
        """Whether another frame may be taken in."""
        return self._count < self._window and self._bytes < self._limit_bytes

    @property
    def is_idle(self) -> bool:
        """Everything is answered, and has left."""
        return not self._entries and not self._ready

    def open(self, size: int, *, is_mark: bool = False) -> Entry:
        """A frame of so many bytes is taken in, or a mark is set."""
        entry = Entry(size, is_mark)
        self._entries[entry] = None
        self._count += not is_mark
        self._bytes += size
        return entry

    def add(self, entry: Entry, messages: Sequence[Message], *, is_last: bool) -> None:
        """Messages about an entry; there must be at least one when they are its last."""
        self.held_bytes += sum(map(len, messages))
        entry.messages += messages
        entry.is_done = is_last
        if not self._in_order and not entry.is_mark:
            self._give(entry)
        self._advance()

    def tell(self, message: Message) -> None:
        """A message that belongs to no entry; it leaves as soon as it can."""
        self.held_bytes += len(message)
        self._ready.append((message, None))

    def take(self) -> Message | None:
        """The next message to write, or None."""
        if not self._ready:
            return None
        message, entry = self._ready.popleft()
        self.held_bytes -= len(message)
        if entry is not None:
            self._count -= not entry.is_mark
            self._bytes -= entry.size
        return message

    def _advance(self) -> None:
        while self._entries:
            first = next(iter(self._entries))
            self._give(first)
            if not first.is_done:
                return

    def _give(self, entry: Entry) -> None:
        messages, entry.messages = entry.messages, []
        self._ready.extend((message, None) for message in messages)
        if entry.is_done and entry in self._entries:
            del self._entries[entry]
            self._ready[-1] = (self._ready[-1][0], entry)
