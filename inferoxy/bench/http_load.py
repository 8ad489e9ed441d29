"""Load over HTTP: one socket per slot, fixed request bytes, keep-alive.

Plain non-blocking sockets on the loop's readers: a transport of asyncio's would copy what a large body's first write
leaves over, and costs twice as much for a small one. Answers are parsed by httptools; their content is looked at only
where it is kept.
"""

import asyncio
import re
import socket
from typing import Any
from urllib.parse import urlsplit

import httptools

from inferoxy.bench.connections import AGAIN_S, CONNECT_S, CONNECTION_LOST, Receiver
from inferoxy.bench.traffic import Question
from inferoxy.client.address import Address
from inferoxy.client.calls import unreachable
from inferoxy.client.http_protocol import HttpExchange, HttpReply

READ_BYTES = 65_536
_CODE = re.compile(rb'"code":\s*"(\w+)"')


class HttpConnections:
    """See connections.py."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, address: Address, asked: list[Question], receiver: Receiver
    ) -> None:
        self.loop = loop
        self.url = address.url
        self.receiver = receiver
        split = urlsplit(address.target)
        self._host, self._port = split.hostname or "", split.port or 80
        self.requests = [request_bytes(question.exchange(), split.netloc, split.path) for question in asked]
        self.where: tuple[Any, ...] = ()
        self.tasks: set[asyncio.Task[None]] = set()
        self._slots: list[_Connection] = []

    async def open(self, slots: int) -> None:
        """Connect."""
        try:
            found = await self.loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            self.where = found[0]
            self._slots = [_Connection(self, slot) for slot in range(slots)]
            async with asyncio.timeout(CONNECT_S):
                for connection in self._slots:
                    await connection.connect()
        except (OSError, TimeoutError) as exc:
            raise unreachable(self.url, getattr(exc, "strerror", "") or "no answer") from exc

    def send(self, slot: int, number: int) -> None:
        """Begin a request."""
        self._slots[slot].send(number, self.receiver.keeps())

    async def close(self) -> None:
        """End all connections."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for connection in self._slots:
            connection.drop()


class _Connection:
    """One slot. Hot path: send -> _readable -> on_message_complete."""

    def __init__(self, owner: HttpConnections, slot: int) -> None:
        self._owner = owner
        self._slot = slot
        self._sock: socket.socket | None = None
        self._number = -1  # of the request in flight
        self._data = b""
        self._rest: memoryview | None = None  # of the request, not yet taken by the socket
        self._last = b""
        self._kept: list[bytes] | None = None

    async def connect(self) -> None:
        family, kind, protocol, _, where = self._owner.where
        sock = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._owner.loop.sock_connect(sock, where)
        except BaseException:
            sock.close()
            raise
        self._sock = sock
        self._parser = httptools.HttpResponseParser(self)
        self._feed = self._parser.feed_data
        self._owner.loop.add_reader(sock, self._readable)

    def send(self, number: int, keep: bool) -> None:
        self._number = number
        self._kept = [] if keep else None
        requests = self._owner.requests
        self._data = requests[number % len(requests)]
        if self._sock is None:
            self._send_again()
            return
        try:
            sent = self._sock.send(self._data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._lost()
            return
        if sent < len(self._data):
            self._rest = memoryview(self._data)[sent:]
            self._owner.loop.add_writer(self._sock, self._writable)

    def drop(self) -> None:
        if self._sock is not None:
            self._owner.loop.remove_reader(self._sock)
            self._owner.loop.remove_writer(self._sock)
            self._sock.close()
            self._sock = None
        self._rest = None

    def on_message_complete(self) -> None:
        """Called by the parser."""
        status = self._parser.get_status_code()
        if status < 200:
            return
        kept, number = self._kept, self._number
        if self._rest is not None or not self._parser.should_keep_alive():
            self.drop()
        self._number = -1
        receiver = self._owner.receiver
        if status == 200:
            receiver.answered(self._slot, "")
        else:
            found = _CODE.search(self._last)
            receiver.answered(self._slot, found[1].decode() if found else f"HTTP_{status}")
        if kept is not None:
            receiver.kept(number, read_reply(b"".join(kept)))

    def _readable(self) -> None:
        if self._sock is None:
            return
        try:
            data = self._sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        self._last = data
        if self._kept is not None:
            self._kept.append(data)
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._lost()

    def _writable(self) -> None:
        if self._sock is None or self._rest is None:
            return
        try:
            sent = self._sock.send(self._rest)
        except BlockingIOError:
            return
        except OSError:
            self._lost()
            return
        self._rest = self._rest[sent:]
        if not self._rest:
            self._rest = None
            self._owner.loop.remove_writer(self._sock)

    def _lost(self) -> None:
        """The connection broke. If a request was in flight it has failed, a little later so that nothing spins."""
        self.drop()
        if self._number >= 0:
            self._number = -1
            self._owner.loop.call_later(AGAIN_S, self._owner.receiver.answered, self._slot, CONNECTION_LOST)

    def _send_again(self) -> None:
        """Connect first, then send."""

        async def send() -> None:
            try:
                async with asyncio.timeout(CONNECT_S):
                    await self.connect()
            except (OSError, TimeoutError):
                self._lost()
            else:
                self.send(self._number, self._kept is not None)

        task = self._owner.loop.create_task(send())
        self._owner.tasks.add(task)
        task.add_done_callback(self._owner.tasks.discard)


class _Whole:
    """A parser's callbacks that collect an answer."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.body: list[bytes] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        self.body.append(data)


def read_reply(data: bytes) -> HttpReply:
    """A whole answer."""
    whole = _Whole()
    parser = httptools.HttpResponseParser(whole)
    parser.feed_data(data)
    return HttpReply(parser.get_status_code(), whole.headers, b"".join(whole.body))


def request_bytes(exchange: HttpExchange, host: str, prefix: str) -> bytes:
    """A request as it goes out; headers without a value are left out."""
    lines = [f"{exchange.method} {prefix.rstrip('/')}{exchange.path} HTTP/1.1", f"host: {host}"]
    lines += [f"{name}: {value}" for name, value in exchange.headers.items() if value]
    lines += [f"content-length: {len(exchange.body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + exchange.body
