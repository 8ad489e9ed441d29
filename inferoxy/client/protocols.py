"""Which modules speak to an address. Each protocol's library is imported when it is first used."""

from typing import Any, Protocol

from inferoxy.client.address import Address
from inferoxy.client.calls import ClientProtocol


class BlockingTransport(Protocol):
    """A connection for threads."""

    def exchange(self, asked: Any, /) -> Any:
        """One round trip in the protocol's terms."""

    def close(self) -> None:
        """End the connection."""


class AwaitedTransport(Protocol):
    """A connection for the tasks of one loop."""

    async def exchange(self, asked: Any, /) -> Any:
        """One round trip in the protocol's terms."""

    async def close(self) -> None:
        """End the connection."""


def protocol_for(address: Address) -> ClientProtocol:
    """How operations become exchanges."""
    if address.protocol == "zmq":
        from inferoxy.client.zmq_protocol import ZmqProtocol

        return ZmqProtocol()
    if address.protocol == "grpc":
        from inferoxy.client.grpc_protocol import GrpcProtocol

        return GrpcProtocol(address.url)
    from inferoxy.client.http_protocol import HttpProtocol

    return HttpProtocol(address.url)


def blocking_transport(address: Address) -> BlockingTransport:
    """A connection for Client."""
    if address.protocol == "zmq":
        from inferoxy.client import zmq_transport

        return zmq_transport.ThreadTransport(address)
    if address.protocol == "grpc":
        from inferoxy.client import grpc_transport

        return grpc_transport.BlockingGrpc(address)
    from inferoxy.client import http_transport

    return http_transport.BlockingHttp(address)


def awaited_transport(address: Address) -> AwaitedTransport:
    """A connection for AsyncClient."""
    if address.protocol == "zmq":
        from inferoxy.client import zmq_transport

        return zmq_transport.LoopTransport(address)
    if address.protocol == "grpc":
        from inferoxy.client import grpc_transport

        return grpc_transport.AwaitedGrpc(address)
    from inferoxy.client import http_transport

    return http_transport.AwaitedHttp(address)
