"""Requests over ZeroMQ as protos/wire.md describes it: one DEALER, any number of requests open.

As that page allows, stateless requests are sent again when the bridge was restarted; those of sequences are not. A
second answer to a request that was sent once counts as wrong.
"""

import asyncio
import itertools
import time
from collections.abc import Sequence
from typing import Any

from inferoxy import messages as m
from inferoxy import sockets, wire
from tests.drill.flows import CONNECTION, WRONG
from tests.drill.questions import DATATYPE, INPUT, Question, Reply

PING_S = 0.1
SILENT_S = 5.0  # without a word for so long there is no bridge


class _Open:
    def __init__(self, question: Question, reply: "asyncio.Future[Reply]") -> None:
        self.question = question
        self.reply = reply
        self.is_sent = False


class ZmqPort:
    """One server's ZeroMQ bridge."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._ids = itertools.count(1)
        self._open: dict[int, _Open] = {}
        self._again: set[int] = set()  # sent twice, or given up: a late or second answer is in order
        self._epoch = 0
        self._heard_at = time.monotonic()
        self.faults: list[str] = []

    async def open(self) -> None:
        """Connect."""
        self._context = sockets.context()
        self._socket = sockets.LoopSocket(sockets.dealer(self._context, self._endpoint), self._on_message)
        self._pinging = asyncio.create_task(self._ping())

    async def ask(self, question: Question) -> Reply:
        """Send a request and wait for its answer."""
        number = next(self._ids)
        entry = self._open[number] = _Open(question, asyncio.get_running_loop().create_future())
        try:
            self._send(number, entry)
            return await entry.reply
        finally:
            if self._open.pop(number, None) is not None:
                self._again.add(number)

    async def close(self) -> None:
        """Close the socket."""
        self._pinging.cancel()
        self._socket.close()
        self._context.destroy(linger=0)

    def _send(self, number: int, entry: _Open) -> None:
        question = entry.question
        sequence = m.Sequence(*question.sequence) if question.sequence else None
        payload = m.Payload([m.Tensor(INPUT, DATATYPE, question.shape)])
        request = m.Request(
            id=number,
            model=question.model,
            payload=wire.encode_payload(payload),
            timeout_us=int(question.timeout_s * 1e6),
            priority=question.priority,
            sequence=sequence,
        )
        entry.is_sent = self._socket.send(wire.encode(request, [question.data]))

    async def _ping(self) -> None:
        while True:
            self._socket.send(wire.encode(m.Ping(revision=2**31)))
            for number, entry in self._open.items():
                if not entry.is_sent:
                    self._send(number, entry)
            if time.monotonic() - self._heard_at > SILENT_S:
                self._give_up("nothing was heard of the bridge")
            await asyncio.sleep(PING_S)

    def _on_message(self, parts: list[Any]) -> None:
        for header, frames in wire.decode(parts):
            if type(header) is m.Pong:
                self._on_pong(header.epoch)
            elif type(header) is m.Response:
                self._on_response(header, frames)

    def _on_response(self, header: m.Response, frames: Sequence[Any]) -> None:
        entry = self._open.pop(header.id, None)
        if entry is None:
            if header.id not in self._again:
                self.faults.append(f"request {header.id} was answered twice: {header.code} {header.error}")
            return
        if not entry.reply.done():
            entry.reply.set_result(_reply_of(header, frames))

    def _on_pong(self, epoch: int) -> None:
        was_restarted = self._epoch not in (0, epoch)
        self._epoch, self._heard_at = epoch, time.monotonic()
        if not was_restarted:
            return
        self._again.update(self._open)
        for number, entry in list(self._open.items()):
            if entry.question.sequence is None:
                self._send(number, entry)
            else:
                self._break(number, "the bridge was restarted")

    def _give_up(self, why: str) -> None:
        self._again.update(self._open)
        for number in list(self._open):
            self._break(number, why)

    def _break(self, number: int, why: str) -> None:
        entry = self._open.pop(number)
        if not entry.reply.done():
            entry.reply.set_result(Reply(CONNECTION, why))


def _reply_of(header: m.Response, frames: Sequence[Any]) -> Reply:
    if header.code:
        return Reply(header.code, header.error)
    payload = wire.decode_result(header.payload)
    if len(payload.tensors) != 1 or len(frames) != 1 or not header.final:
        return Reply(WRONG, f"expected one tensor in one answer, found {len(payload.tensors)}")
    tensor = payload.tensors[0]
    return Reply("", "", tensor.name, tensor.datatype, tuple(tensor.shape), bytes(sockets.buffer(frames[0])))
