"""What was worked out once, by what it was worked out from.

Pure. For results that equal input always gives again. Clients choose the input, so the number of entries is bounded:
at the bound all are dropped, which costs working them out once more.
"""

from collections.abc import Hashable
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(dict[K, V]):
    """A dict that holds at most `at_most` entries."""

    def __init__(self, at_most: int) -> None:
        super().__init__()
        self._at_most = at_most

    def keep(self, key: K, value: V) -> V:
        """Add an entry and return its value."""
        if len(self) >= self._at_most:
            self.clear()
        self[key] = value
        return value
