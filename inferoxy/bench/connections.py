"""What the three kinds of load have in common: slots that send, and who is told of the answers.

Invariant: nothing is answered from within `send`, so callers may send from within `answered`.
"""

import asyncio
from typing import Any, Protocol

from inferoxy.bench.traffic import Question
from inferoxy.client.address import Address
from inferoxy.errors import InferoxyError, InvalidRequest

CONNECTION_LOST = "CONNECTION_LOST"
CONNECT_S = 5.0
AGAIN_S = 0.05  # before a slot whose connection was lost is used again


class Receiver(Protocol):
    """Who is told."""

    def answered(self, slot: int, code: str) -> None:
        """A slot has its answer; the code is empty for success."""

    def keeps(self) -> bool:
        """Whether the answer to the request that is being sent should be kept whole."""

    def kept(self, number: int, reply: Any) -> None:
        """The kept reply to request `number` that was a success; called after `answered`."""


class Connections(Protocol):
    """Slots of one protocol, each with at most one request in flight."""

    async def open(self, slots: int) -> None:
        """Connect.

        Raises:
            ConnectionFailed: Nobody is there.
        """

    def send(self, slot: int, number: int) -> None:
        """Begin request `number` on a slot that is free."""

    async def close(self) -> None:
        """End all connections."""


def connections_for(address: Address, asked: list[Question], receiver: Receiver, *, joined: bool) -> Connections:
    """Connections of the address's protocol.

    Args:
        address: Of a bridge.
        asked: Request `number` is question `number` modulo their count.
        receiver: Who is told of answers.
        joined: ZeroMQ: what is sent together travels in one message.

    Raises:
        InvalidRequest: The protocol is not one that load can be made for.
    """
    loop = asyncio.get_running_loop()
    if address.protocol == "zmq":
        from inferoxy.bench.zmq_load import ZmqConnections

        return ZmqConnections(loop, address, asked, receiver, joined=joined)
    if address.protocol == "grpc":
        from inferoxy.bench.grpc_load import GrpcConnections

        return GrpcConnections(loop, address, asked, receiver)
    if not address.target.startswith("http://"):
        raise InvalidRequest(f"url: load is made over http://, grpc://, tcp:// or ipc://, found {address.url}")
    try:
        from inferoxy.bench.http_load import HttpConnections
    except ModuleNotFoundError as exc:
        raise InferoxyError(f"load over http:// needs {exc.name}: pip install 'inferoxy[bench]'") from exc
    return HttpConnections(loop, address, asked, receiver)
