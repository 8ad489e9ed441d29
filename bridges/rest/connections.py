"""The open connections of the REST server, whichever protocol speaks on them; one timer watches over all.

A connection owes something until `expires_at` (a request's header, the rest of a body), or nothing while that is
NEVER; when the time is over it is told to `expire`.
"""

import asyncio
from typing import Any, Protocol

from uvicorn.server import ServerState

NEVER = float("inf")
SWEEP_S = 0.5


class Connection(Protocol):
    """What is asked of a connection."""

    transport: Any
    expires_at: float

    def expire(self) -> None:
        """The time is over."""

    def shutdown(self) -> None:
        """Close when idle, else after the answer under way."""


class Connections:
    """All open connections of a server."""

    def __init__(self) -> None:
        self.state = ServerState()  # uvicorn's protocol keeps its connections and tasks in it
        self.is_shutting_down = False
        self.receiving = 0  # bodies that are not whole yet, on the hot path
        self._open: set[Any] = self.state.connections
        self._empty: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(SWEEP_S, self._sweep)

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._open)

    def add(self, connection: Connection) -> None:
        """A connection is open, or has changed hands."""
        self._open.add(connection)

    def discard(self, connection: Connection) -> None:
        """It is gone, or another protocol speaks on it."""
        self._open.discard(connection)
        if self._empty is not None and not self._open and not self._empty.done():
            self._empty.set_result(None)

    async def shut_down(self, timeout_s: float) -> None:
        """Close idle connections, the others after the answer under way; return when all are, or the time is over."""
        self.is_shutting_down = True
        for connection in list(self._open):
            connection.shutdown()
        if self._open:
            self._empty = self._loop.create_future()
            await asyncio.wait([self._empty], timeout=timeout_s)

    async def close(self) -> None:
        """Cut what is left, and wait for the tasks to end."""
        self._timer.cancel()
        for connection in list(self._open):
            connection.transport.abort()
        tasks = list(self.state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _sweep(self) -> None:
        now = self._loop.time()
        self._timer = self._loop.call_at(now + SWEEP_S, self._sweep)
        for connection in [c for c in self._open if c.expires_at <= now]:
            connection.expires_at = NEVER
            connection.expire()
