"""The WebSocket connections of streams: the handshake, reading and writing, keep-alive, and the end.

The protocol itself is the websockets library's, without its I/O; uvicorn's protocol hands a connection over here when
it asks for an upgrade. What a stream means is stream_session.py's.
Invariants: while a frame more may not be taken in, or what was written is not read, the connection is not read from;
each wait for the client is bounded, by the sweep of connections.py.
"""

import asyncio
import logging
import re
from collections import deque
from urllib.parse import unquote

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from bridges.link import Link
from bridges.requests import request_id
from bridges.rest import stream
from bridges.rest.answers import error_answer
from bridges.rest.connections import NEVER, Connections
from bridges.rest.handlers import not_found
from bridges.rest.stream import Closing, Message
from bridges.rest.stream_session import Session, closing_of
from bridges.rest.uvicorn_protocol import head_bytes
from inferoxy.config import LimitSettings
from inferoxy.errors import InferoxyError, InvalidRequest, ModelUnavailable

PING_S = 20.0  # a client that says nothing for so long is asked whether it is there
PONG_S = 20.0  # and has so long to answer
UNREAD_S = 30.0  # a client that does not read what was written for so long is gone
CLOSE_S = 2.0  # for its side of the end
WRITE_BYTES = 65_536  # so much is written at once
MAX_FRAGMENTS = 10_000  # of one message
IN_ORDER = (1000, 1001)  # codes of clients that close on purpose; a browser says 1001 when the page is left

_PATH = re.compile(r"/v1/models/([^/?]+)/stream(?:\?(.*))?")
_LOG = logging.getLogger("websockets.server")
_LOG.setLevel(logging.ERROR)  # below it are complaints about clients, who are told


class StreamProtocol(asyncio.Protocol):
    """One connection, from the header of its handshake on.

    Args:
        link: To the batch manager.
        limits: What is accepted from clients.
        connections: The server's.
    """

    transport: asyncio.Transport

    def __init__(self, link: Link, limits: LimitSettings, connections: Connections) -> None:
        self.expires_at = NEVER
        self._link = link
        self._limits = limits
        self._all = connections
        self._loop = asyncio.get_running_loop()
        self._ws = ServerProtocol(max_size=int(limits.body_mib * 2**20), logger=_LOG)
        self._session: Session | None = None
        self._inbox: deque[Message] = deque()
        self._parts: list[bytes] = []  # of a message that comes in fragments
        self._is_text = False
        self._is_reading_paused = False
        self._is_writing_paused = False
        self._has_pinged = False
        self._heard_at = self._loop.time()
        self._pumping: asyncio.Handle | None = None

    # Called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._all.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.discard(self)
        if self._pumping is not None:
            self._pumping.cancel()
        self._leave()

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        self._has_pinged = False
        self._ws.receive_data(data)
        for event in self._ws.events_received():
            if isinstance(event, Request):
                self._open(event)
            elif isinstance(event, Frame):
                self._on_frame(event)
        self._flush()
        if self._ws.state is not State.OPEN:
            self._leave()
        else:
            self._pump()

    def pause_writing(self) -> None:
        self._is_writing_paused = True
        self.expires_at = self._loop.time() + UNREAD_S

    def resume_writing(self) -> None:
        self._is_writing_paused = False
        if self._ws.state is State.OPEN:
            self.expires_at = self._loop.time() + PING_S
            self._pump_soon()

    # Called by the server

    def shutdown(self) -> None:
        """Take no more frames; close when those that are open have been answered."""
        if self._session is not None:
            self._session.finish(Closing.ENDING, "the server is ending: connect again")
            self._pump_soon()

    def expire(self) -> None:
        """Look whether the client is still there."""
        if self._is_writing_paused or self._ws.state is not State.OPEN:
            self.transport.abort()
            return
        now = self._loop.time()
        if self._is_reading_paused:  # its answer could not be seen
            self._has_pinged = False
        elif self._has_pinged:
            self._ws.fail(Closing.INTERNAL, "no pong came")
            self._flush()
            self._leave()
            return
        elif now < self._heard_at + PING_S:
            self.expires_at = self._heard_at + PING_S
            return
        self._has_pinged = True
        self.expires_at = now + PONG_S
        self._ws.send_ping(b"")
        self._flush()

    # The beginning and the end

    def _open(self, request: Request) -> None:
        name = request_id(request.headers.get("x-request-id", ""))
        path = _PATH.fullmatch(request.path)
        if path is None or self._all.is_shutting_down:
            plain_path = request.path.partition("?")[0]
            self._refuse(ModelUnavailable("the server is ending: try again") if path else not_found(plain_path), name)
            return
        response = self._ws.accept(request)
        if response.status_code != 101:
            self._refuse(InvalidRequest(f"handshake: {self._ws.handshake_exc}"), name)
            return
        response.headers["X-Request-Id"] = name
        self._ws.send_response(response)
        self.expires_at = self._heard_at + PING_S
        model, query = unquote(path[1]), (path[2] or "").encode("latin-1", "replace")
        try:
            wish = stream.read_wish(query)
            session = Session(self._link, self._limits, model, wish, name, self._pump_soon)
            session.check_model()
        except InferoxyError as exc:
            self._ws.send_text(str(stream.failure({}, exc, name)).encode())
            self._close(closing_of(exc), stream.reason(exc.message))
        else:
            self._session = session

    def _refuse(self, exc: InferoxyError, name: str) -> None:
        """Answer in HTTP: there is no stream."""
        answer = error_answer(exc, name)
        self.transport.write(b"".join([head_bytes(answer, is_last=True), *answer.parts]))
        self.transport.close()

    def _close(self, closing: int, why: str) -> None:
        self._ws.send_close(closing, why)
        self.expires_at = self._loop.time() + CLOSE_S

    def _leave(self) -> None:
        """The stream is over."""
        self._inbox.clear()
        session, self._session = self._session, None
        if session is not None:
            said = self._ws.close_rcvd
            session.close(in_order=said is not None and said.code in IN_ORDER)

    # In between

    def _on_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.TEXT or frame.opcode is Opcode.BINARY:
            self._is_text = frame.opcode is Opcode.TEXT
            self._parts = []
        elif frame.opcode is not Opcode.CONT:
            return
        self._parts.append(bytes(frame.data))
        if len(self._parts) > MAX_FRAGMENTS:
            self._ws.fail(Closing.REFUSED, f"expected at most {MAX_FRAGMENTS} fragments of a message")
        elif frame.fin:
            data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._parts = []
            try:
                self._inbox.append(data.decode() if self._is_text else data)
            except UnicodeDecodeError:
                self._ws.fail(Closing.INVALID_TEXT, "expected UTF-8 in a text message")

    def _pump_soon(self) -> None:
        if self._pumping is None:
            self._pumping = self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Write what can be written and take in what can be taken in, until neither goes on."""
        if self._pumping is not None:
            self._pumping.cancel()
            self._pumping = None
        session = self._session
        if session is None or self._ws.state is not State.OPEN:
            return
        while True:
            self._write_answers(session)
            if self._is_writing_paused or not self._inbox or not session.takes:
                break
            session.take(self._inbox.popleft())
        if session.closing is not None and session.is_idle and not self._is_writing_paused:
            self._close(*session.closing)
            self._flush()
            self._leave()
        takes = session.takes or session.closing is not None
        self._read_if(takes and not self._inbox and not self._is_writing_paused)

    def _write_answers(self, session: Session) -> None:
        written = 0
        while not self._is_writing_paused and (message := session.next_message()) is not None:
            if isinstance(message, str):
                self._ws.send_text(message.encode())
            else:
                self._ws.send_binary(message)
            written += len(message)
            if written > WRITE_BYTES:
                written = 0
                self._flush()
        self._flush()

    def _flush(self) -> None:
        parts = self._ws.data_to_send()
        if not parts or self.transport.is_closing():
            return
        is_last = not parts[-1]  # the library's word for the end of what we send
        data = b"".join(parts)
        if data:
            self.transport.write(data)
        if is_last:  # what the client still sends is read for a while: closing at once could cost it the close frame
            self.transport.write_eof()
            self._read_if(True)
            self.expires_at = self._loop.time() + CLOSE_S

    def _read_if(self, is_wanted: bool) -> None:
        if self._is_reading_paused != is_wanted or self.transport.is_closing():
            return
        self._is_reading_paused = not is_wanted
        if is_wanted:
            self._heard_at = self._loop.time()
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()
