"""Load over ZeroMQ, as protos/wire.md describes it: one DEALER, a slot's requests carry the slot's id.

The payload is encoded once; a request's header is that with the id put in. Of an answer's header only what tells
success is decoded. Requests are sent one message each, as the Python client does, or joined.
Hot path: send, _drain, _flush, _recv. They use no multipart calls, which cost several times as much as their frames.
"""

import asyncio
from typing import Any

import msgspec
import zmq

from inferoxy import messages as m
from inferoxy import sockets, wire
from inferoxy.bench.connections import CONNECT_S, CONNECTION_LOST, Receiver
from inferoxy.bench.traffic import Question
from inferoxy.client.address import Address
from inferoxy.client.calls import unreachable
from inferoxy.client.zmq_session import Ask, Part

JOIN_AT_MOST = 256  # frames in one joined message
TURNS = 16  # of reading and sending before the loop's other callbacks get theirs
SILENT_S = 5.0  # with requests in flight and no pong for so long the bridge counts as lost
PING_S = 1.0
_UINT32 = b"\xce"  # msgpack's mark before four bytes, high byte first
_NOW = int(zmq.DONTWAIT)  # plain integers: arithmetic on pyzmq's enumerations costs more than a send
_MORE = int(zmq.DONTWAIT | zmq.SNDMORE)
_PLACE = 0xFEEDBEEF  # an id that is replaced by the slot's


class _Head(msgspec.Struct, array_like=True):
    """The fields of a Response that are always looked at; the others are skipped.

    `id` is a Pong's epoch and a Models' revision.
    """

    version: int
    kind: int
    frames: int
    id: int = 0
    code: Any = ""
    error: Any = ""
    final: Any = True


_HEAD = msgspec.msgpack.Decoder(_Head)
_RESPONSE = msgspec.msgpack.Decoder(m.Response)


class ZmqConnections:
    """See connections.py."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: Address,
        asked: list[Question],
        receiver: Receiver,
        *,
        joined: bool,
    ) -> None:
        self._loop = loop
        self._address = address
        self._receiver = receiver
        self._joined = joined
        self._asked = [split_request(question.exchange()) for question in asked]
        self._numbers: list[int] = []  # of the request in flight on each slot; -1: none
        self._ids: list[bytes] = []
        self._kept: dict[int, list[Part]] = {}
        self._outbox: list[list[Any]] = []
        self._turn: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_draining = False
        self._epoch = 0
        self._revision = 0
        self._heard: asyncio.Event = asyncio.Event()
        self._heard_at = 0.0
        self._context = sockets.context()
        self._socket = sockets.dealer(self._context, address.target)
        self._fd = int(self._socket.get(zmq.FD))

    async def open(self, slots: int) -> None:
        """Connect and wait for the bridge's first pong."""
        self._numbers = [-1] * slots
        self._ids = [_UINT32 + (slot + 1).to_bytes(4, "big") for slot in range(slots)]
        self._loop.add_reader(self._fd, self._drain)
        self._ping()
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._heard.wait()
        except TimeoutError as exc:
            raise unreachable(self._address.url, "no pong") from exc

    def send(self, slot: int, number: int) -> None:
        """Begin a request."""
        before, behind, frames = self._asked[number % len(self._asked)]
        self._numbers[slot] = number
        if self._receiver.keeps():
            self._kept[slot] = []
        self._put([before + self._ids[slot] + behind, *frames])

    async def close(self) -> None:
        """Close the socket."""
        for handle in (self._turn, self._timer):
            if handle is not None:
                handle.cancel()
        self._loop.remove_reader(self._fd)
        self._socket.close(0)
        self._context.destroy(linger=0)

    def _drain(self) -> None:
        """Send what is to be sent and read all that is there, until neither leads to more.

        ZeroMQ's descriptor is edge-triggered: after a send it must be looked whether something has come.
        """
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._is_draining = True
        try:
            for _ in range(TURNS):
                self._flush()
                self._on_message(self._recv())
            self._turn = self._loop.call_soon(self._drain)
        except zmq.Again:
            return
        finally:
            self._is_draining = False

    def _put(self, parts: list[Any]) -> None:
        self._outbox.append(parts)
        if self._turn is None and not self._is_draining:
            self._turn = self._loop.call_soon(self._drain)

    def _flush(self) -> None:
        if not self._outbox:
            return
        outbox, self._outbox = self._outbox, []
        if self._joined and len(outbox) > 1:
            outbox = join(outbox)
        send = self._socket.send
        for parts in outbox:
            for part in parts[:-1]:
                send(part, _MORE, copy=len(part) < sockets.COPY_BELOW_BYTES)
            send(parts[-1], _NOW, copy=len(parts[-1]) < sockets.COPY_BELOW_BYTES)

    def _recv(self) -> list[Any]:
        """One message; large frames stay ZeroMQ's own.

        Raises:
            zmq.Again: There is none.
        """
        parts: list[Any] = []
        while True:
            frame = self._socket.recv(_NOW, copy=False)
            parts.append(frame if len(frame) >= sockets.COPY_BELOW_BYTES else frame.bytes)
            if not frame.more:
                return parts

    def _on_message(self, parts: list[Any]) -> None:
        at, end = 0, len(parts)
        while at < end:
            head = _HEAD.decode(parts[at])
            stop = at + 1 + head.frames
            if head.kind == m.Kind.RESPONSE:
                self._on_response(head, parts[at:stop])
            elif head.kind == m.Kind.PONG:
                self._on_pong(head.id)
            elif head.kind == m.Kind.MODELS:
                self._revision = head.id
            at = stop

    def _on_response(self, head: _Head, parts: list[Any]) -> None:
        slot = head.id - 1
        kept = self._kept.get(slot) if self._kept else None
        if kept is not None and not head.code:
            response = _RESPONSE.decode(parts[0])
            if response.payload != m.NO_PAYLOAD:
                kept.append(Part(response, [bytes(sockets.buffer(frame)) for frame in parts[1:]]))
        if not head.final or slot < 0:
            return
        number, self._numbers[slot] = self._numbers[slot], -1
        if number < 0:
            return  # it was given up when the bridge was lost
        self._kept.pop(slot, None)
        self._receiver.answered(slot, head.code)
        if kept is not None and not head.code:
            self._receiver.kept(number, kept)

    def _on_pong(self, epoch: int) -> None:
        if self._epoch and epoch != self._epoch:
            self._lose_all()
        self._epoch = epoch
        self._heard_at = self._loop.time()
        self._heard.set()

    def _lose_all(self) -> None:
        """The bridge was restarted, or is gone: it has forgotten what it was asked."""
        for slot, number in enumerate(self._numbers):
            if number >= 0:
                self._numbers[slot] = -1
                self._loop.call_soon(self._receiver.answered, slot, CONNECTION_LOST)
        self._kept.clear()

    def _ping(self) -> None:
        now = self._loop.time()
        self._timer = self._loop.call_later(PING_S, self._ping)
        if self._heard.is_set() and now - self._heard_at > SILENT_S:
            self._heard_at = now
            self._lose_all()
        self._put(wire.encode(m.Ping(revision=self._revision)))


def split_request(ask: Ask) -> tuple[bytes, bytes, list[Any]]:
    """A request's header before and behind its id, and its frames."""
    request = ask.request
    request.id = _PLACE
    header, *frames = wire.encode(request, ask.frames)
    before, behind = header.split(_UINT32 + _PLACE.to_bytes(4, "big"), 1)
    return before, behind, frames


def join(outbox: list[list[Any]]) -> list[list[Any]]:
    """Envelopes in as few messages as may be."""
    messages: list[list[Any]] = [[]]
    for parts in outbox:
        if len(messages[-1]) + len(parts) > JOIN_AT_MOST:
            messages.append([])
        messages[-1] += parts
    return messages
