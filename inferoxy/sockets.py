"""The only place that makes ZeroMQ sockets, and the two ways they are driven.

`LoopSocket` drives a socket from an asyncio loop through the loop's own reader (no zmq.asyncio: one callback drains all
that is there); thread loops use `zmq.Poller` on what these functions return.
Invariants: every socket has a bounded high-water mark and linger 0; a ROUTER reports unroutable messages
(ROUTER_MANDATORY) and a peer that comes back takes its identity over (ROUTER_HANDOVER).
"""

import asyncio
import errno
import hashlib
import os
import struct
import tempfile
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import zmq

from inferoxy.keys import Curve, KeyPair

HIGH_WATER_MARK = 100_000  # messages per peer; queues proper are bounded by the batch manager
COPY_BELOW_BYTES = 65_536  # smaller frames are cheaper to copy than to reference-count
RECONNECT_MS = 50
RECONNECT_MAX_MS = 100  # a refused connect costs next to nothing, and who comes back is missed
# ZMTP heartbeats: a host that has vanished, or a process that was stopped, is noticed after at most their sum. While
# one frame is on its way nothing else can be, so the answer's time is also what the slowest frame may take.
HEARTBEAT_MS = 2_000
HEARTBEAT_ANSWER_MS = 8_000
MAX_DRAIN = 256  # messages taken in one go before others get a turn
ASK_FIRST = 2  # messages: where more are there at once, receiving until there is none is cheaper than asking each time
UNIX_PATH_LIMIT = 100  # bytes; sun_path holds 107

# Plain integers and the binding's own methods: its multipart calls cost several times as much as their frames.
_NOW = int(zmq.DONTWAIT)
_MORE = int(zmq.DONTWAIT | zmq.SNDMORE)
_EVENTS = int(zmq.EVENTS)
_READABLE = int(zmq.POLLIN)
_send: Any = zmq.backend.Socket.send
_recv: Any = zmq.backend.Socket.recv
_get: Any = zmq.backend.Socket.get

GATE_DOMAIN = b"inferoxy"

Frame = Any


def context() -> zmq.Context[zmq.Socket[bytes]]:
    """A context for one process or one test; end it with `destroy(linger=0)`."""
    ctx: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    ctx.set(zmq.MAX_SOCKETS, 4096)
    return ctx


def _make(ctx: zmq.Context[zmq.Socket[bytes]], kind: int) -> zmq.Socket[bytes]:
    sock = ctx.socket(kind)
    sock.set(zmq.LINGER, 0)
    sock.set(zmq.SNDHWM, HIGH_WATER_MARK)
    sock.set(zmq.RCVHWM, HIGH_WATER_MARK)
    sock.set(zmq.RECONNECT_IVL, RECONNECT_MS)
    sock.set(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
    sock.copy_threshold = COPY_BELOW_BYTES
    return sock


def _ask_idle_peers(sock: zmq.Socket[bytes]) -> None:
    sock.set(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    sock.set(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_ANSWER_MS)
    sock.set(zmq.HEARTBEAT_TTL, HEARTBEAT_MS + HEARTBEAT_ANSWER_MS)


def _bind(sock: zmq.Socket[bytes], endpoint: str) -> None:
    if endpoint.startswith("ipc://"):
        Path(endpoint[6:]).parent.mkdir(parents=True, exist_ok=True)
    try:
        sock.bind(endpoint)
    except zmq.ZMQError as exc:
        sock.close(0)
        raise OSError(exc.errno or errno.EADDRINUSE, f"cannot listen on {endpoint}: {exc.strerror}") from exc


def router(
    ctx: zmq.Context[zmq.Socket[bytes]],
    endpoint: str,
    *,
    mode: int | None = None,
    max_message_bytes: int = -1,
    heartbeats: bool = False,
    keys: KeyPair | None = None,
    is_gated: bool = False,
) -> zmq.Socket[bytes]:
    """A bound ROUTER.

    Args:
        ctx: The process's context.
        endpoint: tcp://host:port (port 0 picks one; see `bound_endpoint`) or ipc://path.
        mode: Permission bits of an ipc socket file, so that a container's user may write to it.
        max_message_bytes: A larger frame disconnects its sender; -1 is no limit.
        heartbeats: Ask idle peers whether they are there, and end the connections of those that do not answer.
        keys: Encrypt: only peers that know the public key get in.
        is_gated: And of these only whom the `gate` of this context lets in.

    Raises:
        OSError: The endpoint is taken or may not be bound; the message names it.
    """
    sock = _make(ctx, zmq.ROUTER)
    sock.set(zmq.ROUTER_MANDATORY, 1)
    sock.set(zmq.ROUTER_HANDOVER, 1)
    sock.set(zmq.MAXMSGSIZE, max_message_bytes)
    if heartbeats:
        _ask_idle_peers(sock)
    if keys is not None:
        sock.set(zmq.CURVE_SERVER, 1)
        sock.set(zmq.CURVE_SECRETKEY, keys.secret)
    if is_gated:
        sock.set(zmq.ZAP_DOMAIN, GATE_DOMAIN)
        sock.set(zmq.ZAP_ENFORCE_DOMAIN, 1)
    _bind(sock, endpoint)
    if mode is not None and endpoint.startswith("ipc://"):
        os.chmod(endpoint[6:], mode)
    return sock


def pull(
    ctx: zmq.Context[zmq.Socket[bytes]], endpoint: str, *, max_message_bytes: int = -1, heartbeats: bool = False
) -> zmq.Socket[bytes]:
    """A bound PULL; arguments and errors are those of `router`."""
    sock = _make(ctx, zmq.PULL)
    sock.set(zmq.MAXMSGSIZE, max_message_bytes)
    if heartbeats:
        _ask_idle_peers(sock)
    _bind(sock, endpoint)
    return sock


def dealer(
    ctx: zmq.Context[zmq.Socket[bytes]],
    endpoint: str,
    identity: bytes = b"",
    *,
    immediate: bool = False,
    curve: Curve | None = None,
) -> zmq.Socket[bytes]:
    """A connected DEALER; it reconnects by itself, with the same identity.

    Args:
        ctx: The process's context.
        endpoint: Where the ROUTER is.
        identity: The name its peer knows it by; empty: one the peer makes up.
        immediate: Queue nothing while the peer is away: `send` says False instead.
        curve: Encrypt, to a peer that has this key.
    """
    sock = _make(ctx, zmq.DEALER)
    if identity:
        sock.set(zmq.IDENTITY, identity)
    if immediate:
        sock.set(zmq.IMMEDIATE, 1)
    if curve is not None:
        sock.set(zmq.CURVE_SERVERKEY, curve.server)
        sock.set(zmq.CURVE_PUBLICKEY, curve.own.public)
        sock.set(zmq.CURVE_SECRETKEY, curve.own.secret)
    sock.connect(endpoint)
    return sock


def gate(ctx: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    """Where this context's gated ROUTERs ask whether a peer may connect, by the ZeroMQ Authentication Protocol 1.0.

    To be made before them.
    """
    sock = _make(ctx, zmq.ROUTER)
    sock.bind("inproc://zeromq.zap.01")
    return sock


class Refusal(Enum):
    """How the two ends of a connection did not come together."""

    MECHANISM = "one of them encrypts, the other does not"
    REJECTED = "the server does not let this key in"
    BROKEN = "the server ended it before it had begun, as one does that has another key than expected"


_REFUSALS = {
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL): Refusal.MECHANISM,
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH): Refusal.REJECTED,
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL): Refusal.BROKEN,
}
_OTHER_MECHANISM = 0x11000002  # ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH, which the binding does not name


def watch_refusals(sock: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
    """A socket that has a message whenever a connection of `sock` was refused; to be read, see `refusal_of`."""
    return sock.get_monitor_socket(int(sum(_REFUSALS)))


def refusal_of(frames: Sequence[Frame]) -> Refusal:
    """What a message of `watch_refusals` says."""
    event, value = struct.unpack("=HI", buffer(frames[0]))
    found = _REFUSALS[event]
    return Refusal.BROKEN if found is Refusal.MECHANISM and value != _OTHER_MECHANISM else found


def pair(ctx: zmq.Context[zmq.Socket[bytes]], name: str) -> tuple[zmq.Socket[bytes], zmq.Socket[bytes]]:
    """Two ends of an in-process pipe: (bound, connected); each may live in its own thread."""
    bound, connected = _make(ctx, zmq.PAIR), _make(ctx, zmq.PAIR)
    bound.bind(f"inproc://{name}")
    connected.connect(f"inproc://{name}")
    return bound, connected


def bound_endpoint(sock: zmq.Socket[bytes]) -> str:
    """Where a socket is bound, with the port the system chose."""
    raw = sock.get(zmq.LAST_ENDPOINT)
    return raw.decode().rstrip("\0") if isinstance(raw, bytes) else str(raw)


def marked(frame: Frame) -> tuple[Frame, Callable[[], bool]]:
    """A frame to send in place of this one, without a copy, and whether ZeroMQ has let go of it."""
    found = zmq.Frame(buffer(frame), track=True, copy=False, copy_threshold=0)
    tracker = found.tracker
    return found, lambda: tracker.done


def send(sock: zmq.Socket[bytes], frames: Sequence[Frame]) -> bool:
    """Send without ever blocking; False when the peer is unknown, gone or its queue is full."""
    last = len(frames) - 1
    try:
        for at, frame in enumerate(frames):
            _send(sock, frame, _NOW if at == last else _MORE, len(frame) < COPY_BELOW_BYTES)
    except zmq.Again:
        return False
    except zmq.ZMQError as exc:
        if exc.errno == zmq.EHOSTUNREACH:
            return False
        raise
    return True


def recv(sock: zmq.Socket[bytes]) -> list[Frame] | None:
    """One message without blocking, or None.

    Frames of COPY_BELOW_BYTES or more stay ZeroMQ's own (zmq.Frame), so that passing them on copies nothing.
    """
    try:
        frame = _recv(sock, _NOW, False)
        parts: list[Frame] = [frame if len(frame) >= COPY_BELOW_BYTES else frame.bytes]
        while frame.more:
            frame = _recv(sock, _NOW, False)
            parts.append(frame if len(frame) >= COPY_BELOW_BYTES else frame.bytes)
    except zmq.Again:
        return None
    return parts


def is_readable(sock: zmq.Socket[bytes]) -> bool:
    """Whether a message is there: a third of what it costs to find out by receiving none."""
    found: int = _get(sock, _EVENTS)
    return found & _READABLE != 0


def buffer(frame: Frame) -> memoryview:
    """The bytes of a received frame, without a copy."""
    return frame.buffer if isinstance(frame, zmq.Frame) else memoryview(frame)


class LoopSocket:
    """A ZeroMQ socket on an asyncio loop: `on_message(frames)` for each message, all that is there in one callback.

    ZeroMQ's descriptor is edge-triggered, so what it has to say must be read to the end after every receive and send;
    `send` therefore looks for messages that a send may have uncovered.

    Args:
        sock: It is closed by `close`.
        on_message: Takes one message's frames.
        on_drained: Called behind the last of the messages that were there at once: the place to send what they caused.
    """

    def __init__(
        self,
        sock: zmq.Socket[bytes],
        on_message: Callable[[list[Frame]], None],
        on_drained: Callable[[], None] | None = None,
    ) -> None:
        self.sock = sock
        self.is_draining = False
        self._on_message = on_message
        self._on_drained = on_drained
        self._loop = asyncio.get_running_loop()
        self._fd = int(sock.get(zmq.FD))
        self._again: asyncio.Handle | None = None
        self._loop.add_reader(self._fd, self._drain)
        self._again = self._loop.call_soon(self._drain)

    def send(self, frames: Sequence[Frame]) -> bool:
        """Send without blocking; False when it could not be queued."""
        sent = send(self.sock, frames)
        if self._again is None and not self.is_draining and is_readable(self.sock):
            self._again = self._loop.call_soon(self._drain)
        return sent

    def close(self, linger_ms: int = 0) -> None:
        """Stop reading and close the socket; what was queued may still leave within `linger_ms`."""
        self._loop.remove_reader(self._fd)
        if self._again is not None:
            self._again.cancel()
        self.sock.close(linger_ms)

    def _drain(self) -> None:
        self._again = None
        self.is_draining = True
        try:
            is_empty = self._take_messages()
        finally:
            self.is_draining = False
            if self._on_drained is not None:
                self._on_drained()
        if not is_empty and self._again is None and not self.sock.closed:
            self._again = self._loop.call_soon(self._drain)

    def _take_messages(self) -> bool:
        """Whether all that was there has been taken."""
        for count in range(MAX_DRAIN):
            if self.sock.closed or (count < ASK_FIRST and not is_readable(self.sock)):
                return True
            frames = recv(self.sock)
            if frames is None:
                return True
            self._on_message(frames)
        return False


def runtime_dir(data_dir: Path) -> Path:
    """Where a stack's socket files live: data_dir/run, or a short folder of its own when that path is too long."""
    wanted = data_dir.resolve() / "run"
    if len(os.fsencode(wanted)) + len("/backend/backend.sock") <= UNIX_PATH_LIMIT:
        return wanted
    digest = hashlib.sha256(os.fsencode(wanted)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"inferoxy-{os.getuid()}-{digest}"
