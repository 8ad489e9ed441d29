"""The FastAPI app, made beside the first requests.

Importing FastAPI and describing every route takes longer than the rest of the bridge's start, and the hot path needs
nothing of it: a bridge that was killed is back the sooner. A request for the app waits until it is there.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from inferoxy import logs

App = Callable[[Any, Any, Any], Awaitable[None]]


class LateApp:
    """An ASGI app whose real one `make` gives; made on the running loop.

    Args:
        make: Called once, in a thread.
    """

    def __init__(self, make: Callable[[], App]) -> None:
        self._made: asyncio.Future[App] = asyncio.ensure_future(asyncio.to_thread(make))
        self._made.add_done_callback(_tell)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass on to the real app.

        Raises:
            Exception: It could not be made.
        """
        app = self._made.result() if self._made.done() else await asyncio.shield(self._made)
        await app(scope, receive, send)


def _tell(made: "asyncio.Future[App]") -> None:
    if not made.cancelled() and made.exception() is not None:
        logs.get().critical("only the hot path answers: the REST app could not be made", exc_info=made.exception())
