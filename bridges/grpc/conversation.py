"""One bidirectional stream: requests are read while there is room, answers written in their turn.

What messages mean is infer_stream.py's and picture_stream.py's; the order of answers is turns.py's.
Invariants: what is held for a stream is bounded: in requests by `window`, in bytes by reading nothing further, and
whoever makes a model answer without end but does not read loses the stream; a stream that ends, however that comes,
leaves no request behind; when the server drains, what was read is answered and nothing further is read.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any

import grpc

from bridges.collecting import COLLECT_AT_MOST
from bridges.grpc.turns import Turn, Turns
from bridges.link import Link
from bridges.pending import OnResponse
from inferoxy import messages as m
from inferoxy.errors import Code, InferoxyError, ModelUnavailable

WINDOW = 256  # requests of a stream under way, at most
HELD_BYTES = 1 << 28  # of requests, and of answers that are there or to be expected; beyond it nothing is read
UNREAD_BYTES = 4 * HELD_BYTES  # of answers beyond which a client that does not read loses its stream


class Conversation:
    """One stream, from its first message to its end.

    Args:
        context: The call's.
        link: To the batch manager.
        draining: Done when the server drains.
        window: Requests under way at most.
    """

    def __init__(self, context: Any, link: Link, draining: asyncio.Future[None], window: int = WINDOW) -> None:
        self.window = window
        self.on_left: Callable[[Turn], None] | None = None  # called when a turn's last answer has been sent
        self._context = context
        self._link = link
        self._draining = draining
        self._turns = Turns()
        self._ids: set[int] = set()
        self._has_room = asyncio.Event()
        self._has_answers = asyncio.Event()
        self._is_deaf = False  # what is still read is dropped
        self._has_heard_all = False  # no further turn begins
        self._overflow: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(
        self, on_message: Callable[[bytes], None], on_end: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Read and write until the client has half-closed and has all its answers.

        Args:
            on_message: Gets each message; an error that it raises is the stream's.
            on_end: Awaited once when nothing further will be read; may begin a last turn.

        Raises:
            InferoxyError: What the stream ends with instead, after the answers to what was read.
        """
        loop = asyncio.get_running_loop()
        reader = loop.create_task(self._read(on_message))
        writer = loop.create_task(self._write())
        try:
            await asyncio.wait({reader, writer, self._draining, self._overflow}, return_when=asyncio.FIRST_COMPLETED)
            self._is_deaf = True
            if not writer.done() and not self._overflow.done():
                if on_end is not None:
                    await on_end()
                self._has_heard_all = True
                self._has_answers.set()
                await asyncio.wait({writer, self._overflow}, return_when=asyncio.FIRST_COMPLETED)
            if self._overflow.done():
                raise self._too_much()
            writer.result()
            if not reader.done():
                raise ModelUnavailable("the server is ending: open the stream again")
            reader.result()
        finally:
            reader.cancel()
            writer.cancel()
            for request_id in list(self._ids):
                self._link.cancel(request_id)
            self._ids.clear()
            await asyncio.gather(reader, writer, return_exceptions=True)

    def begin(self, lane: Hashable | None, size: int) -> Turn:
        """A request was read: its turn begins. See Turns.begin."""
        return self._turns.begin(lane, size)

    def submit(self, request: m.Request, frames: Sequence[Any], on_response: OnResponse) -> None:
        """Send a request on; it is cancelled if the stream ends before its final response."""

        def respond(response: m.Response, tensors: Sequence[Any]) -> None:
            if response.final:
                self._ids.discard(response.id)
            on_response(response, tensors)

        self._ids.add(self._link.submit(request, frames, respond))

    def put(self, turn: Turn, message: Any, size: int = 0, *, is_last: bool = True) -> None:
        """An answer is ready. See Turns.put."""
        turns = self._turns
        turns.put(turn, message, size, is_last=is_last)
        self._has_answers.set()
        is_too_much = turns.waiting > COLLECT_AT_MOST + self.window or turns.bytes > UNREAD_BYTES
        if is_too_much and not self._overflow.done():
            self._overflow.set_result(None)

    async def _read(self, on_message: Callable[[bytes], None]) -> None:
        turns, context = self._turns, self._context
        while True:
            while turns.open >= self.window or (turns.open and self._expected_bytes() > HELD_BYTES):
                self._has_room.clear()
                await self._has_room.wait()
            message = await context.read()
            if message is grpc.aio.EOF or self._is_deaf:
                return
            on_message(message)

    def _too_much(self) -> InferoxyError:
        found = f"{self._turns.waiting} that wait, {self._turns.bytes} bytes held"
        return InferoxyError(f"answers: expected the client to read them, found {found}", Code.PAYLOAD_TOO_LARGE)

    def _expected_bytes(self) -> int:
        return self._turns.bytes + self._turns.open * self._turns.largest

    async def _write(self) -> None:
        turns, context = self._turns, self._context
        while turns.open or not self._has_heard_all:
            departure = turns.take()
            if departure is None:
                self._has_answers.clear()
                await self._has_answers.wait()
                continue
            if departure.message is not None:
                await context.write(departure.message)
            turns.left(departure)
            if departure.is_last:
                self._has_room.set()
                if self.on_left is not None:
                    self.on_left(departure.turn)
