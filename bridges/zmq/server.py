"""The ZeroMQ bridge's process: a ROUTER for DEALER clients; see protos/wire.md.

A client that holds a sequence is sent a PONG a second, since ROUTER_MANDATORY tells that it is gone only when something
is sent.
Invariants: every request of a client is answered or, when the client is gone, cancelled; the sequences of a client that
is gone end; answers for one client that come in one turn of the loop travel in one message; nothing a client sends
disturbs another.
"""

import asyncio
import secrets
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zmq

from bridges import serving
from bridges.link import Link
from bridges.models import public_view
from bridges.zmq.admission import MAX_ID, Admission
from bridges.zmq.answers import AnswerEncoder
from bridges.zmq.clients import Clients
from bridges.zmq.gate import AllowedClients, Gate
from bridges.zmq.malformed import explain, id_of
from bridges.zmq.sequences import HeldSequences
from bridges.zmq.unread import Unread
from inferoxy import logs, sockets, wire
from inferoxy import messages as m
from inferoxy.config import CurveSettings, LimitSettings, Settings
from inferoxy.errors import Code, InferoxyError, InvalidRequest, ModelUnavailable
from inferoxy.kept import Kept
from inferoxy.keys import KeyPair, read_pair

JOIN_AT_MOST = 256  # frames in one joined message
ROOM_TO_REFUSE = 4  # a frame up to so many times the limit is answered; a larger one ends the connection
LINGER_MS = 500  # for the last answers to leave
LOOK_S = 1.0  # how often it is looked whether clients that hold sequences are there
UNREAD_BYTES = 2**26  # of answers that a client leaves unread; beyond that it may not ask for more
UNREAD_LIMIT_BYTES = 2**28  # beyond that it loses answers
MAX_EPOCHS = 1_024  # clients that lost answers, of which it is remembered


def run(settings: Settings) -> int:
    """Run the ZeroMQ bridge until told to end; the exit code."""
    return serving.run("bridge_zmq", settings, listen)


async def listen(settings: Settings, link: Link, context: zmq.Context[Any]) -> "ZmqServer":
    """Begin to serve.

    Raises:
        OSError: The address is taken or may not be bound; the message names it.
        InvalidRequest: The keys for encryption are wrong.
    """
    largest = int(settings.limits.body_mib * 2**20) * ROOM_TO_REFUSE
    keys, gate = _encryption(settings.curve, context)
    sock = sockets.router(
        context,
        settings.zmq,
        max_message_bytes=largest,
        heartbeats=True,
        keys=keys,
        is_gated=gate is not None,
    )
    told = {"public_key": keys.public.decode(), "clients": "listed" if gate else "all"} if keys else {}
    logs.get().info("listening", zmq=settings.zmq, **told)
    return ZmqServer(sock, link, settings.limits, gate)


def _encryption(settings: CurveSettings, context: zmq.Context[Any]) -> tuple[KeyPair | None, Gate | None]:
    if settings.secret_key is None:
        if settings.clients is not None:
            raise InvalidRequest("curve.clients: expected curve.secret_key beside it, found none")
        return None, None
    keys = read_pair(settings.secret_key, "curve.secret_key")
    if settings.secret_key.stat().st_mode & 0o077:
        logs.get().warning("the secret key can be read by others", file=str(settings.secret_key))
    return keys, None if settings.clients is None else Gate(context, AllowedClients(settings.clients))


class ZmqServer:
    """The socket and its clients."""

    def __init__(self, sock: zmq.Socket[bytes], link: Link, limits: LimitSettings, gate: Gate | None = None) -> None:
        self._link = link
        self._gate = gate
        self._admission = Admission(limits)
        self._answers = AnswerEncoder()
        self._clients = Clients()
        self._sequences = HeldSequences()
        self._unread = Unread()
        self._epoch = secrets.randbits(31) | 1
        self._epochs: Kept[bytes, int] = Kept(MAX_EPOCHS)  # of clients that lost answers and may not know
        self._is_draining = False
        self._loop = asyncio.get_running_loop()
        self._outbox: dict[bytes, list[Any]] = {}
        self._flushing: asyncio.Handle | None = None
        self._models: tuple[int, list[Any]] = (0, [])
        self._endpoint = sockets.bound_endpoint(sock)
        self._socket = sockets.LoopSocket(sock, self._on_message, self._on_drained)
        link.after_answers = self._flush
        self._look = self._loop.call_later(LOOK_S, self._look_after_clients)

    async def drain(self, timeout_s: float) -> None:
        """Refuse further requests; return when the open ones are answered, or the time is over."""
        self._is_draining = True
        await self._link.drain(timeout_s)

    async def close(self) -> None:
        """Send what is left to be sent, and close the socket."""
        self._look.cancel()
        self._flush()
        self._socket.close(LINGER_MS)
        if self._gate is not None:
            self._gate.close()
        self._remove_file()

    def _on_drained(self) -> None:
        self._link.flush()
        self._flush()

    def _on_message(self, parts: list[Any]) -> None:
        self._link.gather()
        client = bytes(parts[0])
        at = 1
        try:
            for header, frames in wire.decode(parts[1:]):
                if type(header) is m.Request:
                    self._on_request(client, header, frames)
                elif type(header) is m.Ping:
                    self._on_ping(client, header)
                elif type(header) is m.Cancel:
                    self._on_cancel(client, header)
                else:
                    raise InvalidRequest(f"header: expected REQUEST, CANCEL or PING, found {m.Kind(header.kind).name}")
                at += 1 + len(frames)
        except InvalidRequest as exc:
            self._refuse_unreadable(client, parts, at, exc)

    def _on_request(self, client: bytes, header: m.Request, frames: Sequence[Any]) -> None:
        client_id = header.id
        if not 0 < client_id <= MAX_ID:
            raise InvalidRequest(f"id: expected 1..{MAX_ID}, found {client_id}")
        if self._clients.is_open(client, client_id):
            return  # sent again by a client that did not know it had arrived
        try:
            if self._is_draining:
                raise ModelUnavailable("the server is ending: try again")
            if not header.model:
                raise InvalidRequest("model: expected a name, found none")
            if (unread := self._unread.bytes_of(client)) > UNREAD_BYTES:
                why = f"answers: expected at most {UNREAD_BYTES} bytes that are not read yet, found {unread}"
                raise InferoxyError(why, Code.QUEUE_FULL)
            view = self._link.models.find(header.model, header.model_version)
            is_step = header.sequence is not None and (view is None or not view.spec.stateless)
            name = self._name_of(client) if is_step else ""
            request, tensors = self._admission.admit(header, frames, name, view)
            if is_step and view is not None:
                self._sequences.check(client, request)
        except InvalidRequest as exc:
            self._refuse(client, client_id, explain(exc))
            return
        except InferoxyError as exc:
            self._refuse(client, client_id, exc)
            return

        def on_response(response: m.Response, frames: Sequence[Any]) -> None:
            if response.final:
                self._clients.close(client, client_id)
                if is_step:
                    self._sequences.answered(client, request, response.code)
            self._put(client, self._answers.encode(client_id, response, frames))

        self._clients.open(client, client_id, self._link.submit(request, tensors, on_response))
        if is_step:
            self._sequences.sent(client, request)

    def _on_cancel(self, client: bytes, header: m.Cancel) -> None:
        for client_id in header.ids:
            link_id = self._clients.close(client, client_id)
            if link_id is not None:
                self._link.cancel(link_id)
                self._put(client, wire.encode(m.Response(id=client_id, code=Code.CANCELLED, error="cancelled")))

    def _on_ping(self, client: bytes, header: m.Ping) -> None:
        self._put(client, self._pong(client))
        models = self._link.models
        if models.complete and header.revision != models.updates:
            if self._models[0] != models.updates:
                shown = [public_view(view) for view in models.all()]
                self._models = (
                    models.updates,
                    wire.encode(m.Models(revision=models.updates, models=shown, complete=True)),
                )
            self._put(client, self._models[1])

    def _look_after_clients(self) -> None:
        self._look = self._loop.call_later(LOOK_S, self._look_after_clients)
        self._unread.forget_quiet()
        for client in self._sequences.clients():
            self._put(client, self._pong(client))

    def _pong(self, client: bytes) -> list[Any]:
        """ZeroMQ connects anew without a word, as another client: so every one has an epoch of its own."""
        return wire.encode(m.Pong(epoch=self._epochs.get(client) or self._epoch ^ zlib.crc32(client) or 1))

    def _refuse_unreadable(self, client: bytes, parts: list[Any], at: int, exc: InvalidRequest) -> None:
        """Answer what stands at this place and cannot be read, under its own id if it has one that is free."""
        if at == 1 and len(parts) > 2 and not len(parts[1]):
            why = InvalidRequest(
                "header: expected one, found an empty frame; use a DEALER, a REQ socket adds that frame"
            )
            self._send(client, [client, b"", *wire.encode(m.Response(code=why.code, error=why.message))])
            return
        frame = sockets.buffer(parts[at])
        client_id = id_of(frame)
        if client_id > MAX_ID or self._clients.is_open(client, client_id):
            client_id = 0
        self._refuse(client, client_id, explain(exc, frame))

    def _refuse(self, client: bytes, client_id: int, exc: InferoxyError) -> None:
        self._put(client, wire.encode(m.Response(id=client_id, code=exc.code, error=exc.message)))

    def _remove_file(self) -> None:
        if self._endpoint.startswith("ipc://"):
            Path(self._endpoint[6:]).unlink(missing_ok=True)

    def _put(self, client: bytes, parts: list[Any]) -> None:
        waiting = self._outbox.get(client)
        if waiting is None:
            self._outbox[client] = [client, *parts]
        else:
            waiting += parts
            if len(waiting) > JOIN_AT_MOST:
                self._send(client, self._outbox.pop(client))
        if self._flushing is None and not self._socket.is_draining and not self._link.is_answering:
            self._flushing = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = None
        if not self._outbox:
            return
        outbox, self._outbox = self._outbox, {}
        for client, parts in outbox.items():
            self._send(client, parts)

    def _send(self, client: bytes, parts: list[Any]) -> None:
        """Send, or give a client up: it is gone, or it does not read what it asked for."""
        is_sent = self._unread.bytes_of(client) <= UNREAD_LIMIT_BYTES
        if is_sent:
            if self._unread.add(client, sum(map(len, parts))):
                parts[-1], has_left = sockets.marked(parts[-1])
                self._unread.mark(client, has_left)
            is_sent = self._socket.send(parts)
        if not is_sent:
            self._epochs.keep(client, secrets.randbits(31) | 1)
            for link_id in self._clients.forget(client):
                self._link.cancel(link_id)
            if self._sequences.forget(client):
                self._link.gone(self._name_of(client))

    def _name_of(self, client: bytes) -> str:
        """What the batch manager knows a client by: no client of another bridge is called so."""
        return f"{self._link.name}:{client.hex()}"
