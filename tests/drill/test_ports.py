"""Claims about the load itself: wrong, second and missing answers are found out, over real sockets."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from inferoxy import messages as m
from inferoxy import sockets, wire
from tests.drill.flows import CONNECTION, LOST, RIGHT, WRONG, Flow, Outcome, Plan
from tests.drill.load_process import LoadProcess
from tests.drill.questions import OUTPUT

Answer = Callable[[int, bytes], Sequence[bytes]]  # (request's number, its data) to the data of its answers
FLOW = Flow("few", "zmq", users=1, limit=3, timeout_s=0.2)


def double(number: int, data: bytes) -> bytes:
    elements = memoryview(bytearray(data)).cast("i")
    for at, element in enumerate(elements):
        elements[at] = (element * 2 + 2**31) % 2**32 - 2**31
    return bytes(elements)


class Bridge:
    """A ROUTER that answers requests as it is told to."""

    def __init__(self, answer: Answer) -> None:
        self._context = sockets.context()
        self._answer = answer
        self._seen = 0
        sock = sockets.router(self._context, "tcp://127.0.0.1:0")
        self.endpoint = sockets.bound_endpoint(sock)
        self._socket = sockets.LoopSocket(sock, self._on_message)

    def close(self) -> None:
        self._socket.close()
        self._context.destroy(linger=0)

    def _on_message(self, parts: list[Any]) -> None:
        for header, frames in wire.decode(parts[1:]):
            if type(header) is m.Ping:
                self._socket.send([parts[0], *wire.encode(m.Pong(epoch=1))])
            elif type(header) is m.Request:
                self._seen += 1
                tensor = wire.decode_payload(header.payload).tensors[0]
                payload = wire.encode_payload(m.ResultPayload([m.Tensor(OUTPUT, "INT32", tensor.shape)]))
                for data in self._answer(self._seen, bytes(sockets.buffer(frames[0]))):
                    response = m.Response(id=header.id, payload=payload)
                    self._socket.send([parts[0], *wire.encode(response, [data])])


async def outcomes_of(load: LoadProcess, monkeypatch: pytest.MonkeyPatch) -> list[Outcome]:
    monkeypatch.setattr("tests.drill.load_process.GRACE_S", 0.2)
    return await load.serve()


def run(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    async def main() -> list[Outcome]:
        bridge = Bridge(answer)
        try:
            return await outcomes_of(LoadProcess(Plan({"zmq": bridge.endpoint}, [FLOW], 1)), monkeypatch)
        finally:
            bridge.close()

    return [outcome.code for outcome in asyncio.run(main())]


def test_right_answers_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(lambda number, data: [double(number, data)], monkeypatch) == [RIGHT] * 3


def test_an_answer_with_a_wrong_byte_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(number: int, data: bytes) -> list[bytes]:
        right = double(number, data)
        return [right if number != 2 else right[:-1] + bytes([right[-1] ^ 1])]

    assert run(answer, monkeypatch) == [RIGHT, WRONG, RIGHT]


def test_a_second_answer_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(number: int, data: bytes) -> list[bytes]:
        return [double(number, data)] * (2 if number == 2 else 1)

    assert sorted(run(answer, monkeypatch)) == [RIGHT, RIGHT, RIGHT, WRONG]


def test_a_request_that_is_never_answered_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(lambda number, data: [double(number, data)] if number != 2 else [], monkeypatch)
    assert found == [RIGHT, LOST, RIGHT]


async def broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
    writer.close()


async def muddled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
    writer.close()


@pytest.mark.parametrize(("serve", "code"), [(broken, CONNECTION), (muddled, WRONG)])
def test_an_http_answer_that_breaks_off_or_makes_no_sense_is_told_as_such(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    code: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> list[Outcome]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            plan = Plan({"http": url}, [Flow("few", "http", users=1, limit=1, timeout_s=1.0)], 1)
            return await outcomes_of(LoadProcess(plan), monkeypatch)

    assert [outcome.code for outcome in asyncio.run(main())] == [code]
