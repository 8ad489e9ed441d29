"""The life of a bridge process: logs, loop, link, listening, told to end, drained, closed.

Invariant: every wait at the end is bounded by `drain_s`; the exit code says whether the address was taken.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import zmq

from bridges.link import Link
from bridges.slots import Placer
from inferoxy import logs, sockets
from inferoxy.arena import Arena, reclaim
from inferoxy.config import Settings
from inferoxy.lifecycle import Lifecycle

EXIT_ADDRESS_TAKEN = 3


class Server(Protocol):
    """A client protocol being served."""

    async def drain(self, timeout_s: float) -> None:
        """Accept nothing more, let what is in flight be answered for at most `timeout_s`, and stop."""

    async def close(self) -> None:
        """Let answers leave that have just been made, then end whatever is left."""


Listen = Callable[[Settings, Link, zmq.Context[Any]], Awaitable[Server]]


def run(component: str, settings: Settings, listen: Listen) -> int:
    """Run a bridge until it is told to end; the exit code.

    Args:
        component: Its name, such as bridge_rest.
        settings: Of the whole stack.
        listen: Begins to serve; raises OSError when the address is taken.
    """
    logs.setup(component, settings.log_level, settings.log_format)
    lifecycle = Lifecycle()
    context = sockets.context()
    try:
        return asyncio.run(_serve(component, settings, listen, lifecycle, context))
    finally:
        context.destroy(linger=0)


async def _serve(
    component: str, settings: Settings, listen: Listen, lifecycle: Lifecycle, context: zmq.Context[Any]
) -> int:
    log = logs.get()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, about: log.error("unexpected error", **_described(about)))
    link = Link(context, settings.frontend, component.removeprefix("bridge_"), _placer(settings))
    try:
        try:
            server = await listen(settings, link, context)
        except OSError as exc:
            log.error("cannot listen", reason=str(exc))
            return EXIT_ADDRESS_TAKEN
        try:
            lifecycle.ready()
            await lifecycle.wait()
            log.info("draining", open_requests=link.open_requests)
            await server.drain(settings.drain_s)
        finally:
            link.close()  # whoever still waits is told, while the server can tell him
            await server.close()
    finally:
        link.close()
    return 0


def _placer(settings: Settings) -> Placer | None:
    """Shared memory for large tensors, unless it is switched off or there is no place for it."""
    if not settings.arena_mib:
        return None
    root = settings.arena_root
    try:
        reclaim(root)
        return Placer(Arena(root, settings.arena_mib << 20))
    except OSError as exc:
        logs.get().warning("no shared memory: tensors travel in frames", where=str(root), reason=str(exc))
        return None


def _described(about: dict[str, Any]) -> dict[str, Any]:
    exc = about.get("exception")
    return {"what": about.get("message", ""), "exc_info": exc} if exc else {"what": about.get("message", "")}
