"""The REST bridge's process: our own listening socket and asyncio server.

On a connection stands the hot path, and behind it uvicorn's protocol with the FastAPI app.

Invariant: a connection that sends no whole request header within `header_timeout_s` is closed.
"""

import asyncio
import socket
from typing import Any

import zmq

from bridges import serving
from bridges.link import Link
from bridges.rest.connections import Connections
from bridges.rest.front import FrontProtocol, Shared
from bridges.rest.handlers import Handlers
from bridges.rest.head import HeadReader
from bridges.rest.late_app import App, LateApp
from bridges.rest.uvicorn_protocol import uvicorn_config
from bridges.v2_regions import Regions, regions_for
from inferoxy import logs
from inferoxy.config import Settings, split_address

BACKLOG = 2_048
LAST_ANSWERS_S = 0.5


def run(settings: Settings) -> int:
    """Run the REST bridge until told to end; the exit code."""
    return serving.run("bridge_rest", settings, listen)


async def listen(settings: Settings, link: Link, context: zmq.Context[Any]) -> "RestServer":
    """Begin to serve.

    Raises:
        OSError: The address is taken or may not be bound; the message names it.
    """
    sock = _bind(settings.rest)
    regions = regions_for(settings, settings.rest)
    handlers = Handlers(link.models, lambda: link.is_ready, settings.limits, regions)
    heads = HeadReader(handlers, int(settings.limits.body_mib * 2**20))
    connections = Connections()

    def open_stream(**_: Any) -> asyncio.Protocol:
        from bridges.rest.stream_socket import StreamProtocol

        return StreamProtocol(link, settings.limits, connections)

    config = uvicorn_config(LateApp(lambda: _make_app(handlers, regions, link, settings)), open_stream)
    shared = Shared(heads, link, connections, settings.limits, config)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: FrontProtocol(shared), sock=sock, backlog=BACKLOG)
    logs.get().info("listening", rest=f"http://{settings.rest}")
    return RestServer(server, connections)


class RestServer:
    """The listening socket and its connections."""

    def __init__(self, server: asyncio.Server, connections: Connections) -> None:
        self._server = server
        self._connections = connections

    async def drain(self, timeout_s: float) -> None:
        """Accept no connection and no further request; return when the open ones are answered, or the time is over."""
        self._server.close()
        await self._connections.shut_down(timeout_s)
        if self._connections.count:
            logs.get().warning("connections were still open at the end", count=self._connections.count)

    async def close(self) -> None:
        """Let answers leave that have just been made, then end whatever is left."""
        self._server.close()
        await self._connections.shut_down(LAST_ANSWERS_S)
        await self._connections.close()


def _make_app(handlers: Handlers, regions: Regions, link: Link, settings: Settings) -> App:
    from bridges.rest.app import make_app
    from bridges.rest.v2_control import V2Control

    return make_app(handlers, V2Control(link, regions, settings.v2), link, settings.limits)


def _bind(address: str) -> socket.socket:
    host, port = split_address(address)
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as exc:
        raise OSError(exc.errno, f"cannot listen on {address}: {exc.strerror}") from exc
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
        sock.setblocking(False)
    except OSError as exc:
        sock.close()
        raise OSError(exc.errno, f"cannot listen on {address}: {exc.strerror}") from exc
    return sock
