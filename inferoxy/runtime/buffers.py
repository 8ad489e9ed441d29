"""Memory for large arrays, used again once nobody looks at it any more.

A fresh large array costs its page faults, which is more than copying into it. The array handed out is watched by a weak
reference: every view of it, also one that ZeroMQ is still sending, keeps it alive, and its memory comes back only when
the last one is gone. So nobody has to say that he is done, and nobody can say it too early.
"""

import weakref
from collections import deque

import numpy as np
from numpy.typing import NDArray

SMALL_BYTES = 256 * 1024  # below it the allocator's own free lists are as good
MAX_FREE = 8


class Buffers:
    """Hands out byte arrays. Any thread may take one, and the last view may end in any thread."""

    def __init__(self) -> None:
        self._free: deque[bytearray] = deque(maxlen=MAX_FREE)

    def take(self, size: int) -> NDArray[np.uint8]:
        """An array [size] of arbitrary content."""
        if size < SMALL_BYTES:
            return np.empty(size, np.uint8)
        memory = self._find(size)
        array: NDArray[np.uint8] = np.frombuffer(memory, np.uint8, size)
        weakref.finalize(array, self._free.append, memory).atexit = False
        return array

    def _find(self, size: int) -> bytearray:
        for _ in range(len(self._free)):
            try:
                memory = self._free.popleft()
            except IndexError:  # another thread took it
                break
            if size <= len(memory) <= 2 * size:
                return memory
            self._free.append(memory)
        return bytearray(size)
