"""The FastAPI app, made beside the first requests.

Importing FastAPI and describing every route takes longer than the rest of the bridge's start, and the hot path needs
nothing of it: a bridge that was killed is back the sooner. It begins when those who waited for the bridge have been
served, or with the first request that needs the app, which then waits until it is there.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from inferoxy import logs

AFTER_S = 1.0  # what piled up while the bridge was away comes first

App = Callable[[Any, Any, Any], Awaitable[None]]


class LateApp:
    """An ASGI app whose real one `make` gives; made on the running loop.

    Args:
        make: Called once, in a thread.
    """

    def __init__(self, make: Callable[[], App]) -> None:
        self._make = make
        self._made: asyncio.Future[App] | None = None
        asyncio.get_running_loop().call_later(AFTER_S, self._begin)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass on to the real app.

        Raises:
            Exception: It could not be made.
        """
        made = self._begin()
        app = made.result() if made.done() else await asyncio.shield(made)
        await app(scope, receive, send)

    def _begin(self) -> asyncio.Future[App]:
        if self._made is None:
            self._made = asyncio.ensure_future(asyncio.to_thread(self._make))
            self._made.add_done_callback(_tell)
        return self._made


def _tell(made: "asyncio.Future[App]") -> None:
    if not made.cancelled() and made.exception() is not None:
        logs.get().critical("only the hot path answers: the REST app could not be made", exc_info=made.exception())
