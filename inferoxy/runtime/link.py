"""The socket to the batch manager, driven one turn at a time by whichever thread holds it.

worker.py says which thread that is. Only `post` may be called by others: it queues a message and wakes the holder.
Batches are made ready (intake.py) in the turn in which they arrive.
"""

import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from math import ceil
from time import monotonic
from typing import Any

import zmq

from inferoxy import messages as m
from inferoxy import sockets, wire
from inferoxy.errors import InvalidRequest
from inferoxy.lifecycle import Lifecycle
from inferoxy.runtime.intake import Intake, PreparedBatch
from inferoxy.runtime.session import Session

LINGER_MS = 2_000  # what the last results may take to leave when the instance ends in order

# WHO: the batch manager knows of no sequence that lives here, because it was restarted or believed this instance lost.
Work = PreparedBatch | m.EndSequence | m.Who
Outgoing = list[Any] | Callable[[], list[Any]]  # a message, or what makes it when its turn has come
log = logging.getLogger("inferoxy.runtime")


class Link:
    """Receives work, sends results, keeps the session alive.

    Args:
        endpoint: Of the batch manager's backend.
        hello: Says who this instance is.
        intake: Makes batches ready.
        lifecycle: Tells when the process must end.
    """

    def __init__(self, endpoint: str, hello: m.Hello, intake: Intake, lifecycle: Lifecycle) -> None:
        self._context = sockets.context()
        self._socket = sockets.dealer(self._context, endpoint, hello.instance.encode())
        self._session = Session(hello, monotonic())
        self._intake = intake
        self._lifecycle = lifecycle
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._outbox: deque[Outgoing] = deque()
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._wake, zmq.POLLIN)
        self._poller.register(lifecycle.fileno(), zmq.POLLIN)

    @property
    def has_ended(self) -> bool:
        """No more work will come."""
        return self._session.has_ended

    @property
    def exit_code(self) -> int:
        """What the process should end with, once the session has ended."""
        return self._session.exit_code

    def turn(self) -> list[Work]:
        """Block until there is something to do, do it, and return the work that arrived."""
        now = monotonic()
        if now >= self._session.wakeup:
            self._say(self._session.tick(now))
        if self._outbox:
            self._flush()
        work: list[Work] = []
        if self._session.has_ended:
            return work
        for ready, _ in self._poller.poll(max(0, ceil((self._session.wakeup - now) * 1e3))):
            if ready is self._socket:
                frames = sockets.recv(self._socket)
                if frames is not None:
                    self._receive(frames, work)
            elif ready == self._wake:
                os.eventfd_read(self._wake)
                self._flush()
            else:
                self._poller.unregister(ready)  # it stays readable
                self._say(self._session.leave())
        return work

    def send(self, frames: list[Any]) -> None:
        """Send a message; only the holder may."""
        if self._outbox or not sockets.send(self._socket, frames):
            self._outbox.append(frames)

    def post(self, item: Outgoing) -> None:
        """Queue a message for the holder to make and send; any thread may."""
        self._outbox.append(item)
        self.wake()

    def wake(self) -> None:
        """Make the holder's turn end."""
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Send what is left, as far as someone is there to take it, and close."""
        self._flush()
        if self._session.reason:
            log.info("instance ends: %s", self._session.reason)
        self._socket.close(LINGER_MS if self._session.is_let_go else 0)
        self._context.term()
        os.close(self._wake)

    def _receive(self, frames: Sequence[Any], work: list[Work]) -> None:
        now = monotonic()
        try:
            for message, tensors in wire.decode(frames):
                if isinstance(message, m.Batch):
                    self._session.heard(now)
                    work.append(self._intake.prepare(message, tensors))
                elif isinstance(message, m.EndSequence):
                    self._session.heard(now)
                    work.append(message)
                else:
                    self._say(self._session.handle(message, now))
                    if isinstance(message, m.Who):
                        work.append(message)
        except InvalidRequest as exc:  # the batch manager's other messages are unharmed
            log.warning("a message from the batch manager was dropped: %s", exc)

    def _say(self, messages: Sequence[m.Header]) -> None:
        for message in messages:
            self.send(wire.encode(message))

    def _flush(self) -> None:
        """Send what was posted. What cannot be sent now is tried again in the next turn."""
        while self._outbox:
            item = self._outbox[0]
            if callable(item):
                item = self._outbox[0] = item()
            if not sockets.send(self._socket, item):
                return
            self._outbox.popleft()
