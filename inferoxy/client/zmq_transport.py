"""One ZeroMQ connection, driven by a thread of its own (for Client) or by an asyncio loop (for AsyncClient).

Which requests are open is zmq_session.py's; here are the socket, the clock and the handing over between threads.
Invariant: the socket is touched by one thread only.
"""

import asyncio
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

import zmq

from inferoxy import sockets
from inferoxy.client.address import Address
from inferoxy.client.calls import ConnectionFailed
from inferoxy.client.zmq_connection import Connection
from inferoxy.client.zmq_session import Ask, AskModels, Session

Question = Ask | AskModels
F = TypeVar("F", "Future[Any]", "asyncio.Future[Any]")


class Asked(Generic[F]):
    """A question that is under way.

    Attributes:
        outcome: Its reply, or what happened instead.
    """

    def __init__(self, outcome: F, withdraw: Callable[[], None]) -> None:
        self.outcome: F = outcome
        self._withdraw = withdraw

    def abandon(self) -> None:
        """Nobody waits for it any more; does nothing when it has its outcome."""
        if self.outcome.cancelled() or not self.outcome.done():
            self._withdraw()
        else:
            self.outcome.exception()  # now it was looked at: asyncio complains of errors that nobody has seen


class ThreadTransport:
    """Any number of threads ask, one has the socket: their requests are pipelined over one connection."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._inbox: deque[Callable[[Session], None]] = deque()
        self._lock = threading.Lock()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._wake, self._woken = socket.socketpair()
        for end in (self._wake, self._woken):
            end.setblocking(False)

    def begin(self, question: Question) -> "Asked[Future[Any]]":
        """Send a question, behind those that this thread has sent before.

        Raises:
            ConnectionFailed: The client is closed.
        """
        outcome: Future[Any] = Future()
        number = 0

        def submit(session: Session) -> None:
            nonlocal number
            number = session.submit(question, outcome, time.monotonic())

        def withdraw() -> None:
            try:
                self._post(lambda session: session.abandon(number))
            except ConnectionFailed:  # so nothing is under way any more
                pass

        self._post(submit)
        return Asked(outcome, withdraw)

    def exchange(self, question: Question) -> Any:
        """Send a question and wait for its outcome.

        Raises:
            InferoxyError: What happened instead of an answer.
        """
        asked = self.begin(question)
        try:
            return asked.outcome.result()
        finally:
            asked.abandon()  # if the waiting thread was interrupted

    def close(self) -> None:
        """End the thread; what waits fails."""
        with self._lock:
            self._closed = True
            self._poke()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            self._wake.close()
            self._woken.close()

    def _post(self, action: Callable[[Session], None]) -> None:
        with self._lock:
            if self._closed:
                raise _closed(self._address)
            if self._thread is None:
                opened = Connection(self._address)
                self._thread = threading.Thread(target=self._run, args=(opened,), name="inferoxy-client", daemon=True)
                self._thread.start()
            self._inbox.append(action)
            self._poke()

    def _poke(self) -> None:
        try:
            self._wake.send(b"\0")
        except OSError:  # so many pokes are unread that it will wake anyway, or it has ended
            pass

    def _run(self, connection: Connection) -> None:
        session = Session(self._address.url, lambda frames: sockets.send(connection.socket, frames))
        poller = zmq.Poller()
        for readable in (connection.socket, connection.refusals, self._woken):
            poller.register(readable, zmq.POLLIN)
        try:
            while not self._closed:
                due = session.tick(time.monotonic())
                poller.poll(None if due is None else max(0, int((due - time.monotonic()) * 1e3) + 1))
                self._take_in(session, connection)
        finally:
            with self._lock:
                self._closed = True
                while self._inbox:
                    self._inbox.popleft()(session)
            session.close(_closed(self._address))
            connection.close()

    def _take_in(self, session: Session, connection: Connection) -> None:
        try:
            while self._woken.recv(4096):
                pass
        except BlockingIOError:
            pass
        while self._inbox:
            self._inbox.popleft()(session)
        while (refusal := sockets.recv(connection.refusals)) is not None:
            session.refused(*connection.refused(refusal, time.monotonic()))
        connection.try_again(time.monotonic())
        for _ in range(sockets.MAX_DRAIN):
            frames = sockets.recv(connection.socket)
            if frames is None:
                break
            session.handle(frames, time.monotonic())


class LoopTransport:
    """The same on the running loop; opened by the first question."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connection: Connection | None = None
        self._closed = False

    def begin(self, question: Question) -> "Asked[asyncio.Future[Any]]":
        """Send a question, behind those that were sent before.

        Raises:
            ConnectionFailed: The client is closed, or no connection can be made to its address.
        """
        if self._closed:
            raise _closed(self._address)
        if self._connection is None:
            self._open()
        outcome: asyncio.Future[Any] = self._loop.create_future()
        number = self._session.submit(question, outcome, self._loop.time())
        self._schedule()

        def withdraw() -> None:
            outcome.cancel()
            self._session.abandon(number)

        return Asked(outcome, withdraw)

    async def exchange(self, question: Question) -> Any:
        """Send a question and wait for its outcome; abandoned when the waiting task is cancelled.

        Raises:
            InferoxyError: What happened instead of an answer.
        """
        asked = self.begin(question)
        try:
            return await asked.outcome
        finally:
            asked.abandon()

    async def close(self) -> None:
        """Close the socket; what waits fails."""
        self._closed = True
        if self._connection is not None:
            if self._timer is not None:
                self._timer.cancel()
            self._session.close(_closed(self._address))
            self._socket.close()
            self._refusals.close()
            self._connection.close()
            self._connection = None

    def _open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = Connection(self._address)
        self._socket = sockets.LoopSocket(self._connection.socket, self._on_message)
        self._refusals = sockets.LoopSocket(self._connection.refusals, self._on_refusal)
        self._session = Session(self._address.url, self._socket.send)
        self._timer: asyncio.Handle | None = None
        self._due: float | None = None

    def _on_message(self, frames: list[Any]) -> None:
        self._session.handle(frames, self._loop.time())
        self._schedule()

    def _on_refusal(self, frames: list[Any]) -> None:
        if self._connection is not None:
            self._session.refused(*self._connection.refused(frames, self._loop.time()))

    def _schedule(self) -> None:
        if self._connection is not None:
            self._connection.try_again(self._loop.time())
        due = self._session.tick(self._loop.time())
        if due is not None and (self._due is None or due < self._due):
            if self._timer is not None:
                self._timer.cancel()
            self._due, self._timer = due, self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._due = None
        self._schedule()


def _closed(address: Address) -> ConnectionFailed:
    return ConnectionFailed(f"the client of {address.url} is closed")
