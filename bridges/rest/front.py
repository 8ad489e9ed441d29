"""The hot path: a connection's protocol that takes plain inference requests, and hands the rest to uvicorn.

A large body is received straight into the buffer in which it is sent on; no task, event or framework stands between.
What head.py does not take goes to uvicorn's protocol on the same connection with all its bytes, and the connection
comes back after the answer.
Invariants: one request of a connection is under way at a time, and its answer is written before the next is looked at;
both ways give identical answers, because both call handlers.py.

Hot path: buffer_updated -> _advance -> _run, then _on_answer. Nothing there copies a large body, logs, or makes a task.
"""

import asyncio
import socket
from typing import NamedTuple

import numpy as np
from uvicorn import Config

from bridges.link import Link
from bridges.requests import request_id
from bridges.rest.answers import HttpAnswer, error_answer
from bridges.rest.asgi import SEND_APART_BYTES, slow_body
from bridges.rest.connections import NEVER, Connections
from bridges.rest.exchange import Running
from bridges.rest.head import BEGIN, END, Head, HeadReader
from bridges.rest.uvicorn_protocol import KEEP_ALIVE_S, UvicornProtocol, head_bytes
from inferoxy.arena import OwnedSlot
from inferoxy.config import LimitSettings
from inferoxy.errors import InferoxyError, InternalError

INBOX_BYTES = 65_536  # what is read at once; a header must fit
HEADER_BYTES = 4_096  # the same behind a large body: what of the next one comes with its header would be copied

# While several bodies are being received, the loop is told of one when so much of it has come: on its own it would be
# woken for each of the pieces, which costs as much as copying them. A body that comes alone is copied as it comes.
PIECE_BYTES = 524_288

# What is read is looked at before anything else is read, so all connections of a loop share one inbox.
_INBOX = bytearray(INBOX_BYTES)
_VIEW = memoryview(_INBOX)


class Shared(NamedTuple):
    """What all connections of a server have in common."""

    heads: HeadReader
    link: Link
    connections: Connections
    limits: LimitSettings
    uvicorn: Config


class FrontProtocol(asyncio.BufferedProtocol):
    """One connection."""

    transport: asyncio.Transport

    def __init__(self, shared: Shared) -> None:
        self.expires_at = NEVER
        self._shared = shared
        self._loop = asyncio.get_running_loop()
        self._inbox_bytes = INBOX_BYTES
        self._rest = b""  # read, but not looked at to the end
        self._owes_header = True
        self._head: Head | None = None  # of the request whose body is being received, or that is under way
        self._body: memoryview | None = None  # while it is being received
        self._body_filled = 0
        self._slot: OwnedSlot | None = None  # that the body lies in
        self._told_from = 1  # bytes that must be there for the loop to be told
        self._is_under_way = False
        self._running: Running | None = None
        self._is_reading_paused = False
        self._is_writing_paused = False

    # Called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._shared.connections.add(self)
        self.expires_at = self._loop.time() + self._shared.limits.header_timeout_s

    def connection_lost(self, exc: Exception | None) -> None:
        self._shared.connections.discard(self)
        if self._running is not None:
            self._running.cancel()
            self._running = None
        self._drop_body()

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._body is not None:
            return self._body[self._body_filled :]
        rest = len(self._rest)
        if rest:
            _INBOX[:rest] = self._rest
            return _VIEW[rest:]
        return _VIEW[: self._inbox_bytes]

    def buffer_updated(self, nbytes: int) -> None:
        if self._body is not None:
            self._body_filled += nbytes
            left = len(self._body) - self._body_filled
            if left < self._told_from:
                self._tell_from(left or 1)
            if not left:
                body, self._body = self._body, None
                self._shared.connections.receiving -= 1
                self._run(body)
            return
        filled = len(self._rest) + nbytes
        if self._is_under_way or self._is_writing_paused:
            self._rest = bytes(_VIEW[:filled])  # the next request has to wait
            self._pause_reading()
        else:
            self._advance(filled)

    def pause_writing(self) -> None:
        self._is_writing_paused = True
        self.expires_at = self._loop.time() + KEEP_ALIVE_S

    def resume_writing(self) -> None:
        self._is_writing_paused = False
        self._next()

    # Called by the server

    def expire(self) -> None:
        """What the client owed did not come."""
        if self._body is not None:
            self._drop_body()
            self._write(error_answer(slow_body(self._shared.limits), self._request_id()), is_last=True)
        elif self._is_writing_paused:
            self.transport.abort()
        else:
            self.transport.close()

    def shutdown(self) -> None:
        """Close when idle, else after the answer under way."""
        if not self._is_under_way and self._body is None:
            self.transport.close()

    def _advance(self, filled: int) -> None:
        """Look at so many bytes in the inbox: a whole request, a part of one, or something for uvicorn."""
        end = _INBOX.find(END, 0, filled)
        if end < 0 and filled < INBOX_BYTES and _INBOX.startswith(BEGIN[:filled]):
            self._rest = bytes(_VIEW[:filled])
            if not self._owes_header:
                self._owes_header = True
                self.expires_at = self._loop.time() + self._shared.limits.header_timeout_s
            return
        end += len(END)
        head = self._shared.heads.read(bytes(_VIEW[:end])) if end >= len(END) else None
        if head is None:
            self._hand_over(bytes(_VIEW[:filled]))
            return
        self._head = head
        self._owes_header = False
        stop = end + head.length
        if stop <= filled:
            self._inbox_bytes = INBOX_BYTES
            body = memoryview(bytes(_VIEW[end:stop]))
            self._rest = bytes(_VIEW[stop:filled])
            self._run(body)
            return
        self._rest = b""
        self._inbox_bytes = HEADER_BYTES if head.length > INBOX_BYTES else INBOX_BYTES
        self._body = self._place_for(head)
        self._body_filled = filled - end
        self._body[: self._body_filled] = _VIEW[end:filled]
        self._shared.connections.receiving += 1
        left = head.length - self._body_filled
        if left > PIECE_BYTES and self._shared.connections.receiving > 1:
            self._tell_from(PIECE_BYTES)
        self.expires_at = self._loop.time() + self._shared.limits.body_timeout_s

    def _tell_from(self, size: int) -> None:
        self._told_from = size
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)

    def _run(self, body: memoryview) -> None:
        """Start the request that is whole now."""
        head = self._head
        if head is None:
            raise InternalError("a body without a header")
        self.expires_at = NEVER
        self._is_under_way = True
        if self._rest:
            self._pause_reading()
        name = self._request_id()
        try:
            exchange = head.start(body, name)
        except InferoxyError as exc:
            self._drop_slot()
            self._on_answer(error_answer(exc, name))
            return
        except Exception as exc:  # as the FastAPI routes do: the client is told that it was our fault
            self._drop_slot()
            self._loop.call_exception_handler({"message": "a request could not be handled", "exception": exc})
            self._on_answer(error_answer(InternalError("the request could not be handled"), name))
            return
        slot, self._slot = self._slot, None
        if slot is not None and isinstance(exchange.calls[0], InferoxyError):
            self._shared.link.give_back(slot)
            slot = None
        self._running = Running(exchange, self._shared.link, self._on_answer, slot)
        self._running.start()

    def _place_for(self, head: Head) -> memoryview:
        """Memory for a large body: where the instance will read it, if that can be."""
        found = self._shared.link.take_body(head.model, head.version, head.length, head.shift)
        if found is None:
            return np.empty(head.length, np.uint8).data  # not cleared: it is filled to the end before it is read
        self._slot, place = found
        return place

    def _drop_body(self) -> None:
        if self._body is not None:
            self._body = None
            self._shared.connections.receiving -= 1
        self._drop_slot()

    def _drop_slot(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            self._shared.link.give_back(slot)

    def _on_answer(self, answer: HttpAnswer) -> None:
        head, self._head = self._head, None
        self._running = None
        self._is_under_way = False
        is_last = head is None or not head.keeps_alive or self._shared.connections.is_shutting_down
        self.expires_at = self._loop.time() + KEEP_ALIVE_S
        self._write(answer, is_last)
        if self._is_reading_paused:
            self._loop.call_soon(self._next)

    def _write(self, answer: HttpAnswer, is_last: bool) -> None:
        if self.transport.is_closing():
            return
        head = head_bytes(answer, is_last)
        if sum(map(len, answer.parts)) < SEND_APART_BYTES:
            self.transport.write(b"".join([head, *answer.parts]))
        else:
            self.transport.write(head)
            for part in answer.parts:
                self.transport.write(part)
        if is_last:
            self.transport.close()

    def _next(self) -> None:
        """Go on with what came while a request was under way or its answer could not be written."""
        if self._is_under_way or self._is_writing_paused or self.transport.is_closing():
            return
        if self._is_reading_paused:
            self._is_reading_paused = False
            self.transport.resume_reading()
        rest = len(self._rest)
        if rest:
            _INBOX[:rest] = self._rest
            self._rest = b""
            self._advance(rest)

    def _pause_reading(self) -> None:
        if not self._is_reading_paused:
            self._is_reading_paused = True
            self.transport.pause_reading()

    def _request_id(self) -> str:
        given = self._head.headers.get(b"x-request-id") if self._head is not None else None
        return request_id() if given is None else request_id(given.decode("latin-1"))

    # To uvicorn and back

    def _hand_over(self, data: bytes) -> None:
        """Let uvicorn's protocol go on with this connection, from the first byte of this request."""
        shared = self._shared
        owed_until = self.expires_at if self._owes_header else NEVER
        self._rest = b""
        self.expires_at = NEVER
        shared.connections.discard(self)
        protocol = UvicornProtocol(shared.uvicorn, shared.connections, shared.limits.header_timeout_s, self._take_back)
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        if owed_until != NEVER:
            protocol.expires_at = owed_until
        protocol.data_received(data)

    def _take_back(self, is_writing_paused: bool) -> None:
        """uvicorn has answered, and nothing has come since."""
        self.transport.set_protocol(self)
        self._shared.connections.add(self)
        self._owes_header = False
        self._is_writing_paused = is_writing_paused
        self.expires_at = self._loop.time() + KEEP_ALIVE_S
