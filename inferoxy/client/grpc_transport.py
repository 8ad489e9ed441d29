"""gRPC channels: one that threads share, and one for the tasks of a loop. The only importer of grpc.

A call is made again only where no connection could be made, so nothing of it had been sent.
"""

import asyncio
import threading
import time
from typing import Any

import grpc

from inferoxy.client.address import Address
from inferoxy.client.calls import CONNECT_S, ConnectionFailed
from inferoxy.client.grpc_protocol import GrpcExchange, GrpcReply, error_of, was_never_sent
from inferoxy.errors import DeadlineExceeded

RETRY_S = 0.1
KEEPALIVE_MS = 20_000  # a peer that vanished without a word is noticed after about so long
KEEPALIVE_ANSWER_MS = 10_000
RECONNECT_MS = 100
CONNECT_MS = int(CONNECT_S * 1e3)


class BlockingGrpc:
    """For Client."""

    def __init__(self, address: Address) -> None:
        self._url = address.url
        self._channel = grpc.insecure_channel(address.target, _options(address))
        self._methods: dict[str, Any] = {}
        self._closed = threading.Event()

    def exchange(self, asked: GrpcExchange) -> GrpcReply:
        """Call and wait for the answer.

        Raises:
            InferoxyError: What the server said instead, or that it cannot be reached.
        """
        give_up_at = time.monotonic() + min(CONNECT_S, asked.wait_s)
        while True:
            try:
                call = self._begin(asked)
            except ValueError as exc:
                if not self._closed.is_set():
                    raise
                raise _closed(self._url) from exc
            try:
                message = list(call) if asked.is_streamed else call.result(asked.wait_s)
                return GrpcReply(message, dict(call.trailing_metadata() or ()))
            except grpc.FutureTimeoutError as exc:
                raise DeadlineExceeded(f"no answer from {self._url} within {asked.wait_s:g} s") from exc
            except grpc.FutureCancelledError as exc:
                raise _closed(self._url) from exc
            except grpc.RpcError as exc:
                if self._closed.is_set():
                    raise _closed(self._url) from exc
                if not was_never_sent(exc.details() or "") or time.monotonic() + RETRY_S > give_up_at:
                    raise _error(self._url, exc) from exc
            finally:
                call.cancel()  # does nothing to a call that has ended
            self._closed.wait(RETRY_S)

    def close(self) -> None:
        """Close the channel; calls under way fail."""
        self._closed.set()
        self._channel.close()

    def _begin(self, asked: GrpcExchange) -> Any:
        method = self._method(asked)
        if asked.is_streamed:  # nothing else bounds the wait for an answer's parts
            return method(asked.request, timeout=asked.wait_s, metadata=_told(asked))
        return method.future(asked.request, timeout=asked.timeout_s or None, metadata=_told(asked))

    def _method(self, asked: GrpcExchange) -> Any:
        method = self._methods.get(asked.method)
        if method is None:
            method = self._methods[asked.method] = _method_of(self._channel, asked)
        return method


class AwaitedGrpc:
    """For AsyncClient; opened by the first call, because a channel belongs to the running loop."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._url = address.url
        self._channel: Any = None
        self._methods: dict[str, Any] = {}
        self._is_closed = False

    async def exchange(self, asked: GrpcExchange) -> GrpcReply:
        """Call and wait for the answer; the call is cancelled when the task is.

        Raises:
            InferoxyError: What the server said instead, or that it cannot be reached.
        """
        give_up_at = time.monotonic() + min(CONNECT_S, asked.wait_s)
        while True:
            if self._is_closed:
                raise _closed(self._url)
            call = self._method(asked)(asked.request, timeout=asked.timeout_s or None, metadata=_told(asked))
            try:
                async with asyncio.timeout(asked.wait_s):
                    message = [one async for one in call] if asked.is_streamed else await call
                    return GrpcReply(message, dict(await call.trailing_metadata() or ()))
            except TimeoutError as exc:
                raise DeadlineExceeded(f"no answer from {self._url} within {asked.wait_s:g} s") from exc
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not (task and task.cancelling()) and self._is_closed:  # the channel's end, not the task's
                    raise _closed(self._url) from None
                raise
            except grpc.aio.AioRpcError as exc:
                if not was_never_sent(exc.details() or "") or time.monotonic() + RETRY_S > give_up_at:
                    raise _error(self._url, exc) from exc
            finally:
                call.cancel()
            await asyncio.sleep(RETRY_S)

    async def close(self) -> None:
        """Close the channel; calls under way fail."""
        self._is_closed = True
        if self._channel is not None:
            await self._channel.close()

    def _method(self, asked: GrpcExchange) -> Any:
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self._address.target, _options(self._address))
        method = self._methods.get(asked.method)
        if method is None:
            method = self._methods[asked.method] = _method_of(self._channel, asked)
        return method


def _options(address: Address) -> list[tuple[str, int]]:
    return [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_ANSWER_MS),
        ("grpc.initial_reconnect_backoff_ms", RECONNECT_MS),
        ("grpc.max_reconnect_backoff_ms", 10 * RECONNECT_MS),
        ("grpc.min_reconnect_backoff_ms", CONNECT_MS),  # gRPC's name for how long one attempt to connect may take
        ("grpc.enable_http_proxy", 0 if address.loopback else 1),
        ("grpc.use_local_subchannel_pool", 1),  # a client's connection, and its failures, are its own
    ]


def _method_of(channel: Any, asked: GrpcExchange) -> Any:
    """A callable; one request is all that is sent in a stream too, so its call ends when that is answered."""
    make = channel.unary_stream if asked.is_streamed else channel.unary_unary
    return make(
        f"/{asked.service}/{asked.method}",
        request_serializer=type(asked.request).SerializeToString,
        response_deserializer=asked.response.FromString,
    )


def _told(asked: GrpcExchange) -> tuple[tuple[str, str], ...]:
    return (("x-request-id", asked.request_id),) if asked.request_id else ()


def _error(url: str, exc: Any) -> Exception:
    metadata = {key: value for key, value in exc.trailing_metadata() or () if isinstance(value, str)}
    return error_of(url, exc.code().value[0], exc.details() or "", metadata)


def _closed(url: str) -> ConnectionFailed:
    return ConnectionFailed(f"the client of {url} is closed")
