"""uvicorn's HTTP protocol for what the hot path does not take, with what our server adds.

That is: limits on the time and size of headers, errors as JSON, and the way back to the hot path after an answer.
uvicorn's own server is not used: the listening socket, signals and the end of the process are ours.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from bridges.requests import request_id
from bridges.rest.answers import HttpAnswer, error_answer
from bridges.rest.connections import NEVER, Connections
from bridges.rest.late_app import App
from inferoxy.errors import InvalidRequest

KEEP_ALIVE_S = 75  # an idle connection is kept for so long
MAX_HEADER_BYTES = 65_536

logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # below it are complaints about clients, who are told

GoBack = Callable[[bool], None]
OpenStream = Callable[..., asyncio.Protocol]  # uvicorn calls it as the class that it expects


def uvicorn_config(app: App, open_stream: OpenStream) -> Config:
    """How uvicorn's protocol is to behave.

    Args:
        app: Answers requests.
        open_stream: Makes the protocol that takes over a connection which asks for a WebSocket.
    """
    config = Config(
        app, http="httptools", ws=cast(type[asyncio.Protocol], open_stream), lifespan="off", log_config=None,
        access_log=False, server_header=False, date_header=False, proxy_headers=False, timeout_keep_alive=KEEP_ALIVE_S,
    )  # fmt: skip
    config.load()
    return config


def head_bytes(answer: HttpAnswer, is_last: bool) -> bytes:
    """Status line and headers as they are sent; `is_last` tells that the connection is closed behind the answer."""
    closing = b"connection: close\r\n\r\n" if is_last else b"\r\n"
    return b"%b%b%b" % (STATUS_LINE[answer.status], answer.lines, closing)


class UvicornProtocol(HttpToolsProtocol):
    """One connection, or the part of its life that is not the hot path's.

    Args:
        config: Made by `uvicorn_config`.
        connections: The server's.
        header_timeout_s: A request's header must be whole so long after its first byte.
        go_back: Gives the connection back between two requests; its argument tells whether writing is paused.
    """

    def __init__(
        self, config: Config, connections: Connections, header_timeout_s: float, go_back: GoBack | None = None
    ) -> None:
        super().__init__(config, connections.state, {}, asyncio.get_running_loop())
        self.expires_at = NEVER
        self._all = connections
        self._header_timeout_s = header_timeout_s
        self._go_back = go_back
        self._owes_header = True
        self._header_bytes = 0
        self._is_between = True  # the parser stands between two requests

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.expires_at = self.loop.time() + self._header_timeout_s

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._all.discard(self)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._owes_header and not self.transport.is_closing():
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES:
                self.send_400_response(f"header: expected at most {MAX_HEADER_BYTES} bytes, found more")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_between = False
        self._owes_header = True
        self._header_bytes = 0
        if self.expires_at == NEVER:
            self.expires_at = self.loop.time() + self._header_timeout_s

    def on_headers_complete(self) -> None:
        self._owes_header = False
        self.expires_at = NEVER
        super().on_headers_complete()
        if self._all.is_shutting_down and self.cycle is not None:  # there is none before an upgrade
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        self._is_between = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        is_open = not self.transport.is_closing() and self.cycle.response_complete
        if self._go_back is not None and self._is_between and is_open and not self.pipeline:
            self._unset_keepalive_if_required()
            self._all.discard(self)
            self._go_back(self.flow.write_paused)

    def expire(self) -> None:
        """The header did not come in time."""
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP request, in our form."""
        answer = error_answer(InvalidRequest(f"request: {msg}"), request_id())
        self.transport.write(b"".join([head_bytes(answer, is_last=True), *answer.parts]))
        self.transport.close()
