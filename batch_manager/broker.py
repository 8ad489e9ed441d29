"""The batch manager's I/O loop: sockets in bulk, messages to core.py, its sends back to the sockets.

Decides nothing. One thread, one poller; every turn reads all that is there, then sends all that was decided.
Invariant: a message that cannot be decoded disturbs nobody but its sender, who is answered where that is possible.
"""

import math
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from batch_manager.core import BatchManager
from batch_manager.event_log import EventLog
from batch_manager.sends import Link
from batch_manager.telemetry import Telemetry
from inferoxy import logs, sockets, wire
from inferoxy import messages as m
from inferoxy.config import Settings
from inferoxy.errors import Code, InferoxyError
from inferoxy.lifecycle import Lifecycle

READ_AT_ONCE = 512  # messages of one socket before the others get a turn
REGISTRY_PERIOD_S = 1.0
EXIT_ADDRESS_TAKEN = 3

# What may come in on each link; anything else is a peer's mistake.
_ALLOWED: dict[Link, frozenset[type]] = {
    Link.FRONTEND: frozenset({m.Requests, m.Request, m.Cancel, m.Ping, m.Gone, m.Command, m.AskStatistics}),
    Link.BACKEND: frozenset({m.Hello, m.Result, m.Heartbeat, m.Stop}),
    Link.CONTROL: frozenset({m.Attach, m.Drain, m.Condition}),
}


def run(settings: Settings) -> int:
    """Run the batch manager until told to end; the exit code."""
    logs.setup("batch_manager", settings.log_level, settings.log_format)
    lifecycle = Lifecycle()
    context = sockets.context()
    try:
        broker = Broker(context, settings)
    except OSError as exc:
        logs.get().error("cannot listen", reason=str(exc))
        context.destroy(linger=0)
        return EXIT_ADDRESS_TAKEN
    try:
        lifecycle.ready()
        broker.serve(lifecycle)
    finally:
        broker.close()
        context.destroy(linger=0)
    return 0


class Broker:
    """The sockets of a batch manager around its core."""

    def __init__(self, context: zmq.Context[Any], settings: Settings) -> None:
        self._settings = settings
        self._log = logs.get()
        self._started = time.monotonic()
        epoch = secrets.randbits(31) | 1
        self._event_log: EventLog | None = None
        self._events = Telemetry() if settings.telemetry else None
        self._core = BatchManager(
            epoch,
            secret=settings.secret,
            lost_s=settings.instance_lost_s,
            now=time.monotonic(),
            cpu_slots=settings.cpu_slots or len(os.sched_getaffinity(0)),
            gpu_slots=settings.gpu_slots,
            telemetry=self._events,
        )
        # Containers run as another user: the folder lets them through, the socket lets them write.
        if settings.backend.startswith("ipc://"):
            folder = Path(settings.backend[6:]).parent
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o711)
        self._sockets: dict[Link, zmq.Socket[bytes]] = {}
        try:
            for link, endpoint, mode in (
                (Link.FRONTEND, settings.frontend, 0o600),
                (Link.BACKEND, settings.backend, 0o666),
                (Link.CONTROL, settings.control, 0o600),
            ):
                self._sockets[link] = sockets.router(context, endpoint, mode=mode)
        except OSError:
            self.close()
            raise
        self._registry = sockets.dealer(context, settings.registry, b"batch_manager")
        if self._events is not None and settings.telemetry is not None:
            self._event_log = EventLog(self._events, settings.telemetry, int(settings.telemetry_mib * 2**20))
        self._revision = ""
        self._registry_at = 0.0
        self._malformed = 0

    def serve(self, lifecycle: Lifecycle) -> None:
        """Loop until told to end; then finish what instances hold, for at most `drain_s`."""
        poller = zmq.Poller()
        poller.register(lifecycle.fileno(), zmq.POLLIN)
        poller.register(self._registry, zmq.POLLIN)
        for sock in self._sockets.values():
            poller.register(sock, zmq.POLLIN)
        self._log.info("serving", frontend=self._settings.frontend, backend=self._settings.backend)
        links = {sock: link for link, sock in self._sockets.items()}
        end_at = float("inf")
        is_told = lifecycle.stopping
        while True:
            now = time.monotonic()
            if is_told and end_at == float("inf"):
                # Bridges hold what is not answered and send it again to the next batch manager.
                end_at = now + self._settings.drain_s
                poller.unregister(lifecycle.fileno())
                poller.unregister(self._sockets[Link.FRONTEND])
                self._log.info("draining", in_flight=self._core.in_flight())
            if end_at < float("inf") and (now >= end_at or not self._core.in_flight()):
                return
            timeout_s = max(0.0, min(self._core.next_wakeup(), self._registry_at) - now)
            for found, _ in poller.poll(math.ceil(timeout_s * 1e3)):
                link = links.get(found)
                if link is not None:
                    self._read(link, found)
                elif found is self._registry:
                    self._read_registry()
                else:
                    is_told = True
            now = time.monotonic()
            if now >= self._core.next_wakeup():
                self._core.wake(now)
            if now >= self._registry_at:
                self._tell_registry(now)
            self._flush()

    def close(self) -> None:
        """Close the sockets and remove their files."""
        for sock in self._sockets.values():
            endpoint = sockets.bound_endpoint(sock)
            sock.close(0)
            if endpoint.startswith("ipc://"):
                Path(endpoint[6:]).unlink(missing_ok=True)
        self._sockets.clear()
        if self._event_log is not None:
            self._event_log.close()
        if hasattr(self, "_registry"):
            self._registry.close(0)

    def _read(self, link: Link, sock: zmq.Socket[bytes]) -> None:
        allowed = _ALLOWED[link]
        handle: Callable[..., None] = self._core.handle
        recv, decode, clock = sockets.recv, wire.decode, time.monotonic
        for count in range(READ_AT_ONCE):
            if count == 1 and not sockets.is_readable(sock):  # as a rule there is one; asking is cheaper than trying
                return
            parts = recv(sock)
            if parts is None:
                return
            peer = parts[0]
            try:
                for header, frames in decode(parts[1:]):
                    if type(header) in allowed:
                        handle(peer, header, frames, clock())
                    else:
                        self._refuse(link, peer, f"kind {m.Kind(header.kind).name} may not come in on this socket")
            except InferoxyError as exc:
                self._refuse(link, peer, exc.message)

    def _refuse(self, link: Link, peer: bytes, why: str) -> None:
        self._malformed += 1
        if self._malformed & (self._malformed - 1) == 0:  # the 1st, 2nd, 4th, 8th …
            self._log.warning("message refused", link=link.name.lower(), why=why, count=self._malformed)
        if link is Link.FRONTEND:
            answer = m.Response(code=Code.INVALID_REQUEST, error=why)
            sockets.send(self._sockets[link], [peer, *wire.encode(answer)])

    def _flush(self) -> None:
        """Send what the core decided, until that decides nothing more (a peer may turn out to be gone)."""
        while sends := self._core.take_sends():
            for link, peer, header, frames in sends:
                if not sockets.send(self._sockets[link], [peer, *wire.encode(header, frames)]):
                    self._core.unreachable(link, peer, time.monotonic())

    def _read_registry(self) -> None:
        while (parts := sockets.recv(self._registry)) is not None:
            try:
                for header, _ in wire.decode(parts):
                    if isinstance(header, m.Catalog) and header.revision != self._revision:
                        self._revision = header.revision
                        self._core.handle(b"", header, (), time.monotonic())
                        self._log.info("catalog taken over", models=len(header.models), revision=header.revision)
            except InferoxyError as exc:
                self._log.error("model manager sent something malformed", reason=exc.message)

    def _tell_registry(self, now: float) -> None:
        self._registry_at = now + REGISTRY_PERIOD_S
        report = self._core.report(now) | {"pid": os.getpid(), "uptime_s": now - self._started}
        subscribe = m.Subscribe(component="batch_manager", revision=self._revision)
        parts = wire.encode(subscribe) + wire.encode(m.Report(component="batch_manager", report=report))
        sockets.send(self._registry, parts)
