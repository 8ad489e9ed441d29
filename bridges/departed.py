"""Clients that have left and of whom the batch manager has not been told yet.

Pure. Bounded: who is dropped at the bound is never told of, and his sequences end by idleness instead.
"""

from collections.abc import Iterator

AT_MOST = 65_536
TOGETHER = 1_024  # in one message


class Departed:
    """Names, each once, in the order in which they left."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._names)

    def add(self, name: str) -> None:
        """A client has left."""
        self._names[name] = None
        if len(self._names) > AT_MOST:
            del self._names[next(iter(self._names))]

    def groups(self) -> Iterator[list[str]]:
        """Names for one message after another; a group is forgotten when the next one is asked for."""
        while self._names:
            group = [name for name, _ in zip(self._names, range(TOGETHER), strict=False)]
            yield group
            for name in group:
                del self._names[name]
