"""Which modules speak to an address. Each protocol's library is imported when it is first used."""

import asyncio
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from inferoxy.client import address as addresses
from inferoxy.client.address import Address
from inferoxy.client.calls import ClientProtocol
from inferoxy.errors import InvalidRequest


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


F = TypeVar("F", "Future[Any]", "asyncio.Future[Any]", covariant=True)


class Asked(Protocol[F]):
    """An exchange that is under way; `outcome` is its reply or its error."""

    @property
    def outcome(self) -> F:
        """Its reply, or what happened instead."""

    def abandon(self) -> None:
        """Nobody waits for it any more; does nothing when it has its outcome."""


@runtime_checkable
class PipeliningTransport(Protocol):
    """A connection on which exchanges that are begun one after another arrive so; for threads."""

    def begin(self, asked: Any, /) -> "Asked[Future[Any]]":
        """Send, behind what was sent before."""


@runtime_checkable
class AwaitedPipeliningTransport(Protocol):
    """The same for the tasks of one loop."""

    def begin(self, asked: Any, /) -> "Asked[asyncio.Future[Any]]":
        """Send, behind what was sent before."""


def address_of(url: str, server_key: str | Path | None, client_key: str | Path | None) -> Address:
    """The address that a URL names, with the keys of an encrypted ZeroMQ connection.

    Raises:
        InvalidRequest: It is none of the known forms, or a key or its file is wrong.
    """
    address = addresses.parse(url)
    if address.protocol == "zmq":
        from inferoxy.client import zmq_connection

        return address._replace(curve=zmq_connection.curve_of(server_key, client_key))
    if server_key or client_key:
        raise InvalidRequest(f"server_key, client_key: expected an address tcp://… or ipc://…, found {address.url}")
    return address


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
