"""Handlers behind an ASGI server: read the body within its limits, run the exchange, write the answer.

Invariants: a body over the limit is refused from its Content-Length before it is read, or at the limit where it has
none; a client that goes away cancels its requests; a client that is still sending gets to read why it was refused.
"""

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from bridges.link import Link
from bridges.requests import request_id
from bridges.rest.answers import HttpAnswer, error_answer
from bridges.rest.coding import coding_of, decode
from bridges.rest.exchange import Exchange, Running
from bridges.rest.handlers import HeaderMap
from inferoxy.config import LimitSettings
from inferoxy.errors import Code, InferoxyError, InvalidRequest, PayloadTooLarge

LINGER_S = 5.0  # a refused client may go on sending for so long before its connection is closed
SEND_APART_BYTES = 65_536  # larger parts of a body are not copied together

Do = Callable[[memoryview, str], Awaitable[HttpAnswer]]
Handle = Callable[[HeaderMap, memoryview, str], Exchange]


class ClientGone(Exception):
    """The connection ended before its request did."""


class _Reading(Response):
    """A request whose body is read, and which is answered, when the server calls this response."""

    def __init__(self, limits: LimitSettings) -> None:
        super().__init__()
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        name = id_of(headers)
        try:
            answer = await self._answer(headers, name, receive)
        except ClientGone:
            return
        except _Unread as exc:
            lingers = exc.reason.code is not Code.REQUEST_TIMEOUT and b"expect" not in headers
            await _refuse(error_answer(exc.reason, name), lingers, receive, send)
        else:
            await write(answer, send)

    @abstractmethod
    async def _answer(self, headers: HeaderMap, name: str, receive: Receive) -> HttpAnswer:
        """The answer to a request of which the headers are there.

        Raises:
            _Unread: It is refused before its end.
            ClientGone: The connection ended.
        """


class Command(_Reading):
    """A request with a small body that something is done for."""

    def __init__(self, handle: Do, limits: LimitSettings) -> None:
        super().__init__(limits)
        self._handle = handle

    async def _answer(self, headers: HeaderMap, name: str, receive: Receive) -> HttpAnswer:
        try:
            return await self._handle(await read_body(headers, receive, self._limits), name)
        except InferoxyError as exc:
            return error_answer(exc, name)


class Inference(_Reading):
    """An inference request."""

    def __init__(self, handle: Handle, link: Link, limits: LimitSettings) -> None:
        super().__init__(limits)
        self._handle = handle
        self._link = link

    async def _answer(self, headers: HeaderMap, name: str, receive: Receive) -> HttpAnswer:
        try:
            body = await read_body(headers, receive, self._limits)
            exchange = self._handle(headers, body, name)
        except InferoxyError as exc:
            return error_answer(exc, name)
        done: asyncio.Future[HttpAnswer] = asyncio.get_running_loop().create_future()

        def on_answer(answer: HttpAnswer) -> None:
            if not done.done():
                done.set_result(answer)

        def on_gone(_: Any) -> None:
            if not done.done():
                done.set_exception(ClientGone())

        running = Running(exchange, self._link, on_answer)
        gone = asyncio.ensure_future(_gone(receive))
        gone.add_done_callback(on_gone)
        try:
            running.start()
            return await done
        finally:
            gone.cancel()
            running.cancel()


async def read_body(headers: HeaderMap, receive: Receive, limits: LimitSettings) -> memoryview:
    """The whole body, as it was before it was compressed.

    Raises:
        _Unread: It is refused before its end; `reason` is InvalidRequest, PayloadTooLarge, REQUEST_TIMEOUT or
            UNSUPPORTED_MEDIA_TYPE.
        InferoxyError: It cannot be decompressed, or is too long then.
        ClientGone: The connection ended.
    """
    limit = int(limits.body_mib * 2**20)
    try:
        coding = coding_of(headers.get(b"content-encoding", b""))
    except InferoxyError as exc:
        raise _Unread(exc) from exc
    declared = headers.get(b"content-length")
    size = int(declared) if declared is not None and declared.isdigit() else None
    if size is not None and size > limit:
        raise _Unread(_too_large(limit, f"{size} bytes"))
    try:
        async with asyncio.timeout(limits.body_timeout_s):
            body = await (_read_chunks(receive, limit) if size is None else _read_sized(receive, size))
    except TimeoutError as exc:
        raise _Unread(slow_body(limits)) from exc
    return await asyncio.to_thread(decode, coding, body, limit) if coding else body


async def write(answer: HttpAnswer, send: Send) -> None:
    """Send an answer."""
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    parts = answer.parts
    if len(parts) > 1 and sum(map(len, parts)) < SEND_APART_BYTES:
        parts = [b"".join(parts)]
    for part in parts[:-1]:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": parts[-1], "more_body": False})


def id_of(headers: HeaderMap) -> str:
    """The request's id: the client's own, or a new one."""
    return request_id(headers.get(b"x-request-id", b"").decode("latin-1"))


def slow_body(limits: LimitSettings) -> InferoxyError:
    """The body did not come in time."""
    return InferoxyError(f"body: expected all of it within {limits.body_timeout_s:g} s", Code.REQUEST_TIMEOUT)


class _Unread(Exception):
    """Refused while the client may still be sending."""

    def __init__(self, reason: InferoxyError) -> None:
        super().__init__(reason.message)
        self.reason = reason


def _too_large(limit: int, found: str) -> PayloadTooLarge:
    return PayloadTooLarge(f"body: expected at most {limit} bytes, found {found}")


async def _next(receive: Receive) -> Message:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message


async def _read_sized(receive: Receive, size: int) -> memoryview:
    message = await _next(receive)
    if not message.get("more_body"):
        return _checked(memoryview(message.get("body", b"")), size)
    body = np.empty(size, np.uint8).data  # bytearray would be cleared first
    at = 0
    while True:
        chunk = message.get("body", b"")
        if at + len(chunk) > size:
            raise _Unread(InvalidRequest(f"body: expected {size} bytes by Content-Length, found more"))
        body[at : at + len(chunk)] = chunk
        at += len(chunk)
        if not message.get("more_body"):
            return _checked(body[:at], size)
        message = await _next(receive)


def _checked(body: memoryview, size: int) -> memoryview:
    if len(body) != size:
        raise _Unread(InvalidRequest(f"body: expected {size} bytes by Content-Length, found {len(body)}"))
    return body


async def _read_chunks(receive: Receive, limit: int) -> memoryview:
    body = bytearray()
    while True:
        message = await _next(receive)
        body += message.get("body", b"")
        if len(body) > limit:
            raise _Unread(_too_large(limit, "more"))
        if not message.get("more_body"):
            return memoryview(body)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refuse(answer: HttpAnswer, lingers: bool, receive: Receive, send: Send) -> None:
    """Answer; one that lingers lets the client finish sending for a while, because closing could cost it the answer."""
    start: Any = {"type": "http.response.start", "status": answer.status}
    start["headers"] = [*answer.headers, (b"connection", b"close")]
    await send(start)
    await send({"type": "http.response.body", "body": b"".join(answer.parts), "more_body": True})
    if lingers:
        try:
            async with asyncio.timeout(LINGER_S):
                while (await receive()).get("more_body"):
                    pass
        except TimeoutError:
            pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})
