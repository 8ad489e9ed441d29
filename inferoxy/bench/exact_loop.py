"""An asyncio loop whose timers fire when they should.

The standard selector waits in whole milliseconds, rounded up: an open loop of a thousand requests a second would send
all of them late. This one waits with the resolution of select(2), some tens of microseconds.
"""

import asyncio
import select
import selectors

LATEST_WAIT_S = 3_600.0


class _ExactSelector(selectors.EpollSelector):
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout > 0:
            # An epoll descriptor is itself readable when one of its own is.
            select.select([self.fileno()], [], [], min(timeout, LATEST_WAIT_S))
            timeout = 0
        return super().select(timeout)


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop for `asyncio.Runner(loop_factory=…)`."""
    return asyncio.SelectorEventLoop(_ExactSelector())
