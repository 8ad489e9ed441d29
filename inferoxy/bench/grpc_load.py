"""Load over gRPC: the unary call that the client makes, on one channel per slot, up to CHANNELS.

Requests are serialised once and answers parsed only where they are kept; even so grpc.aio takes about as long for a
call as the server does, so a fast server needs several processes to be loaded.
"""

import asyncio
from typing import Any

import grpc

from inferoxy.bench.connections import AGAIN_S, CONNECT_S, Receiver
from inferoxy.bench.traffic import Question
from inferoxy.client.address import Address
from inferoxy.client.calls import unreachable
from inferoxy.client.grpc_protocol import GrpcExchange, GrpcReply

CHANNELS = 64
_OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),  # channels to one address would else share a connection
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
]


class GrpcConnections:
    """See connections.py."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, address: Address, asked: list[Question], receiver: Receiver
    ) -> None:
        self._loop = loop
        self._address = address
        self._receiver = receiver
        exchanges: list[GrpcExchange] = [question.exchange() for question in asked]
        self._requests: list[bytes] = [exchange.request.SerializeToString() for exchange in exchanges]
        self._method = f"/{exchanges[0].service}/{exchanges[0].method}"
        self._answer = exchanges[0].response
        self._channels: list[Any] = []
        self._methods: list[Any] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, slots: int) -> None:
        """Connect."""
        for _ in range(min(slots, CHANNELS)):
            channel = grpc.aio.insecure_channel(self._address.target, options=_OPTIONS)
            self._channels.append(channel)
            self._methods.append(channel.unary_unary(self._method))
        try:
            async with asyncio.timeout(CONNECT_S):
                for channel in self._channels:
                    await channel.channel_ready()
        except TimeoutError as exc:
            raise unreachable(self._address.url) from exc

    def send(self, slot: int, number: int) -> None:
        """Begin a request."""
        task = self._loop.create_task(self._call(slot, number, self._receiver.keeps()))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for channel in self._channels:
            await channel.close()

    async def _call(self, slot: int, number: int, keep: bool) -> None:
        call = self._methods[slot % len(self._methods)](self._requests[number % len(self._requests)])
        try:
            answer = await call
        except grpc.aio.AioRpcError as exc:
            metadata = dict(exc.trailing_metadata() or ())
            if exc.code() is grpc.StatusCode.UNAVAILABLE:
                await asyncio.sleep(AGAIN_S)
            self._receiver.answered(slot, str(metadata.get("x-inferoxy-code", exc.code().name)))
            return
        self._receiver.answered(slot, "")
        if keep:
            metadata = dict(await call.trailing_metadata() or ())
            self._receiver.kept(number, GrpcReply(self._answer.FromString(answer), metadata))
