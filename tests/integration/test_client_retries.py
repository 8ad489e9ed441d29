"""What the client sends again and what never, how long it waits, and which connections it keeps: against raw sockets.

The servers here say what a test wants byte by byte, because no real one breaks a connection at a chosen moment.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from inferoxy.client import AsyncClient, Client, ConnectionFailed
from inferoxy.errors import DeadlineExceeded

PICTURE = np.zeros((4, 5, 3), np.uint8)
ANSWER = b'{"model": "m", "prediction": {"n": 1}}'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER)

Serve = Callable[["Server", socket.socket], None]


class Server:
    """Accepts connections and serves each in a thread.

    Attributes:
        connections: How many were made.
        requests: How many have come whole.
    """

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self.connections = 0
        self.requests = 0
        self.port: int = self._listener.getsockname()[1]
        self._threads[0].start()

    def came(self) -> int:
        """A request has come whole; how many there are now."""
        with self._lock:
            self.requests += 1
            return self.requests

    def close(self) -> None:
        """Close everything and wait for the threads."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # closed by the client, or by its thread
                pass
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            self._threads.append(threading.Thread(target=self._run, args=(connection,)))
            self._threads[-1].start()

    def _run(self, connection: socket.socket) -> None:
        with connection:
            try:
                self._serve(self, connection)
            except OSError:  # the client has gone
                pass


@contextmanager
def serving(serve: Serve) -> Iterator[Server]:
    server = Server(serve)
    try:
        yield server
    finally:
        server.close()


# HTTP


def read_request(connection: socket.socket) -> bool:
    """Read one request; False when the client has closed."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return False
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    left = int(fields.get(b"content-length", b"0")) - len(body)
    while left > 0:
        left -= len(connection.recv(left))
    return True


def answer_all(server: Server, connection: socket.socket) -> None:
    while read_request(connection):
        server.came()
        connection.sendall(HEAD + ANSWER)


def answer_one_then_close(server: Server, connection: socket.socket) -> None:
    if read_request(connection):
        server.came()
        connection.sendall(HEAD + ANSWER)


def close_without_answer(server: Server, connection: socket.socket) -> None:
    if read_request(connection):
        server.came()


def break_off_the_answer(server: Server, connection: socket.socket) -> None:
    if read_request(connection):
        server.came()
        connection.sendall(HEAD + ANSWER[:10])


def say_nothing(server: Server, connection: socket.socket) -> None:
    if read_request(connection):
        server.came()
        connection.recv(1)


def trickle(server: Server, connection: socket.socket) -> None:
    if read_request(connection):
        server.came()
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n")
        for _ in range(200):
            connection.sendall(b" ")
            time.sleep(0.05)


def both_ways(url: str, **options: Any) -> list[BaseException | None]:
    """How one request ends for a blocking and for an awaited client."""

    def blocking() -> None:
        with Client(url) as client:
            client.predict("m", PICTURE, **options)

    async def awaited() -> None:
        async with AsyncClient(url) as client:
            await client.predict("m", PICTURE, **options)

    with ThreadPoolExecutor(2) as pool:
        return [future.exception() for future in (pool.submit(blocking), pool.submit(asyncio.run, awaited()))]


@pytest.mark.parametrize("serve", [close_without_answer, break_off_the_answer])
def test_http_never_sends_a_request_again_that_the_server_may_have_seen(serve: Serve) -> None:
    with serving(serve) as server:
        ends = both_ways(f"http://127.0.0.1:{server.port}")
        assert [type(end) for end in ends] == [ConnectionFailed, ConnectionFailed]
        assert all("broke before the answer came" in str(end) for end in ends)
        assert server.requests == 2  # one of each client


def test_a_connection_that_the_server_closed_between_requests_is_replaced_unnoticed() -> None:
    async def awaited(url: str) -> None:
        async with AsyncClient(url) as client:
            for _ in range(3):
                assert (await client.predict("m", PICTURE)).value == {"n": 1}
                await asyncio.sleep(0.05)

    with serving(answer_one_then_close) as server:
        with Client(f"http://127.0.0.1:{server.port}") as client:
            for _ in range(3):
                assert client.predict("m", PICTURE).value == {"n": 1}
                time.sleep(0.05)  # the server's end reaches the client
        asyncio.run(awaited(f"http://127.0.0.1:{server.port}"))
        assert (server.requests, server.connections) == (6, 6)


def test_a_refused_connection_is_tried_again_until_the_server_is_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with ThreadPoolExecutor(1) as pool, Client(f"http://127.0.0.1:{port}") as client:
        waiting = pool.submit(client.predict, "m", PICTURE)
        time.sleep(0.5)
        listener = socket.create_server(("127.0.0.1", port))
        with listener:
            connection, _ = listener.accept()
            with connection:
                assert read_request(connection)
                connection.sendall(HEAD + ANSWER)
                assert waiting.result(5.0).value == {"n": 1}


@pytest.mark.parametrize("serve", [say_nothing, trickle])
def test_http_waits_no_longer_than_the_timeout_and_the_grace_for_the_server_s_word(serve: Serve) -> None:
    began = time.monotonic()
    with serving(serve) as server:
        ends = both_ways(f"http://127.0.0.1:{server.port}", timeout_s=0.2)
        assert [type(end) for end in ends] == [DeadlineExceeded, DeadlineExceeded]
        assert server.requests == 2
    assert 2.2 <= time.monotonic() - began < 4.5  # 0.2 s and 2 s of grace


def test_connections_are_kept_and_used_again_whichever_thread_asks() -> None:
    with serving(answer_all) as server, Client(f"http://127.0.0.1:{server.port}") as client:
        with ThreadPoolExecutor(64) as pool:
            futures = [pool.submit(client.predict, "m", PICTURE) for _ in range(320)]
            assert all(future.result().value == {"n": 1} for future in futures)
        assert server.requests == 320
        made = server.connections
        assert made <= 64
        for _ in range(20):
            client.predict("m", PICTURE)
        assert server.connections == made


def test_answers_are_asked_for_uncompressed() -> None:
    heads: list[bytes] = []

    def note(server: Server, connection: socket.socket) -> None:
        heads.append(connection.recv(65536).lower())
        connection.sendall(HEAD + ANSWER)

    with serving(note) as server, Client(f"http://127.0.0.1:{server.port}") as client:
        client.is_ready()
    assert b"accept-encoding: identity" in heads[0]


# gRPC, down to the frames of HTTP/2 (RFC 9113, section 4.1)

DATA, HEADERS, SETTINGS = 0, 1, 4
END_STREAM = ACK = 1
PREFACE = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")


def read_exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data


def read_call(connection: socket.socket) -> None:
    """Take part in HTTP/2 until one whole request has come."""
    read_exactly(connection, PREFACE)
    connection.sendall(bytes((0, 0, 0, SETTINGS, 0, 0, 0, 0, 0)))
    while True:
        head = read_exactly(connection, 9)
        read_exactly(connection, int.from_bytes(head[:3], "big"))
        kind, flags = head[3], head[4]
        if kind == SETTINGS and not flags & ACK:
            connection.sendall(bytes((0, 0, 0, SETTINGS, ACK, 0, 0, 0, 0)))
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            return


def take_a_call_and_close(server: Server, connection: socket.socket) -> None:
    read_call(connection)
    server.came()


def take_a_call_and_say_nothing(server: Server, connection: socket.socket) -> None:
    read_call(connection)
    server.came()
    while connection.recv(65536):
        pass


def never_take_part(_: Server, connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def test_grpc_never_sends_a_request_again_that_the_server_may_have_seen() -> None:
    with serving(take_a_call_and_close) as server:
        ends = both_ways(f"grpc://127.0.0.1:{server.port}")
        assert [type(end) for end in ends] == [ConnectionFailed, ConnectionFailed]
        assert all("broke before the answer came" in str(end) for end in ends)
        assert server.requests == 2


def test_grpc_waits_no_longer_than_the_timeout_and_the_grace_for_the_server_s_word() -> None:
    began = time.monotonic()
    with serving(take_a_call_and_say_nothing) as server:
        ends = both_ways(f"grpc://127.0.0.1:{server.port}", timeout_s=0.2)
        assert [type(end) for end in ends] == [DeadlineExceeded, DeadlineExceeded]
        assert server.requests == 2
    assert 2.2 <= time.monotonic() - began < 4.5


@pytest.mark.parametrize("protocol", ["grpc", "tcp"])
def test_who_accepts_connections_but_does_not_speak_the_protocol_is_not_waited_for(protocol: str) -> None:
    began = time.monotonic()
    with serving(never_take_part) as server:
        ends = both_ways(f"{protocol}://127.0.0.1:{server.port}")
        assert [type(end) for end in ends] == [ConnectionFailed, ConnectionFailed]
    assert time.monotonic() - began < 8.0
