"""The process of the bridge for the first Inferoxy's ZeroMQ clients: a PULL for requests, a ROUTER for answers.

A client's DEALER there is called as its source; what is for a source that is not connected is dropped, as it was. Off
unless both endpoints are set.
Invariant: nothing a client sends disturbs another; what cannot be read is answered where it says whose it is, and
logged at most once a second.
"""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import zmq

from bridges import serving
from bridges.legacy import messages
from bridges.legacy.calls import Calls
from bridges.legacy.messages import Unreadable
from bridges.legacy.outputs import Given, failed
from bridges.link import Link
from bridges.requests import request_id
from bridges.zmq.unread import Unread
from inferoxy import logs, sockets
from inferoxy.config import LimitSettings, Settings
from inferoxy.errors import ConfigError, InferoxyError, InvalidRequest, ModelUnavailable

ROOM_TO_REFUSE = 4  # a message up to so many times the limit is told that it is too large; a larger one is cut off
UNREAD_LIMIT_BYTES = 2**28  # of answers that a client leaves unread; beyond that it loses answers
LINGER_MS = 500  # for the last answers to leave
LOOK_S = 1.0  # between looks at who reads, and between complaints in the log


def run(settings: Settings) -> int:
    """Run the bridge until told to end; the exit code.

    Raises:
        ConfigError: Only one of its endpoints is set.
    """
    if not settings.legacy_results:
        raise ConfigError("legacy_results: expected an endpoint beside legacy_requests, found none")
    return serving.run("bridge_legacy", settings, listen)


async def listen(settings: Settings, link: Link, context: zmq.Context[Any]) -> "LegacyServer":
    """Begin to serve.

    Raises:
        OSError: An address is taken or may not be bound; the message names it.
    """
    largest = int(settings.limits.body_mib * 2**20) * ROOM_TO_REFUSE
    requests = sockets.pull(context, settings.legacy_requests, max_message_bytes=largest, heartbeats=True)
    try:
        results = sockets.router(context, settings.legacy_results, max_message_bytes=largest, heartbeats=True)
    except OSError:
        requests.close(0)
        raise
    logs.get().info("listening", legacy_requests=settings.legacy_requests, legacy_results=settings.legacy_results)
    return LegacyServer(requests, results, link, settings.limits)


class LegacyServer:
    """The two sockets."""

    def __init__(
        self, requests: zmq.Socket[bytes], results: zmq.Socket[bytes], link: Link, limits: LimitSettings
    ) -> None:
        self._calls = Calls(link, limits)
        self._limit_bytes = int(limits.body_mib * 2**20)
        self._unread = Unread()
        self._is_draining = False
        self._complaints = 0  # since the last look
        self._complaint = ""
        self._endpoints = [sockets.bound_endpoint(sock) for sock in (requests, results)]
        self._requests = sockets.LoopSocket(requests, self._on_message)
        self._results = sockets.LoopSocket(results, lambda _: None)
        self._loop = asyncio.get_running_loop()
        self._look = self._loop.call_later(LOOK_S, self._look_around)

    async def drain(self, timeout_s: float) -> None:
        """Refuse further requests; return when the open ones are answered, or the time is over."""
        self._is_draining = True
        if len(self._calls):
            empty = self._loop.create_future()
            self._calls.on_empty = lambda: None if empty.done() else empty.set_result(None)
            await asyncio.wait([empty], timeout=timeout_s)

    async def close(self) -> None:
        """Send what is left to be sent, and close the sockets."""
        self._look.cancel()
        self._complain()
        self._requests.close()
        self._results.close(LINGER_MS)
        self._remove_files()

    def _remove_files(self) -> None:
        for endpoint in self._endpoints:
            if endpoint.startswith("ipc://"):
                Path(endpoint[6:]).unlink(missing_ok=True)

    def _on_message(self, parts: list[Any]) -> None:
        try:
            request = self._read(parts)
        except Unreadable as exc:
            self._complaints += 1
            self._complaint = f"{exc.reason.message} (source {exc.source!r:.80})" if exc.source else exc.reason.message
            if exc.source:
                self._answer(exc.source, exc.model, failed(exc.reason, {}))
            return
        for sent in request.inputs:
            on_output = partial(self._on_output, request.source, request.model)
            try:
                if isinstance(sent, InvalidRequest):
                    raise sent
                if self._is_draining:
                    raise ModelUnavailable("the server is ending: try again")
                self._calls.begin(request.source, request.model, sent, request_id(), on_output)
            except InferoxyError as exc:
                parameters = {} if isinstance(sent, InvalidRequest) else sent.parameters
                self._answer(request.source, request.model, failed(exc, parameters))

    def _read(self, parts: list[Any]) -> messages.Request:
        if len(parts) != 1:
            raise Unreadable(InvalidRequest(f"message: expected one frame, found {len(parts)}"))
        data = bytes(sockets.buffer(parts[0]))
        if len(data) > self._limit_bytes:
            found = f"message: expected at most {self._limit_bytes} bytes, found {len(data)}"
            raise Unreadable(InvalidRequest(found))
        return messages.read(data, self._limit_bytes)

    def _on_output(self, source: str, model: str, given: Given | None, is_last: bool) -> None:
        if given is not None:
            self._answer(source, model, given)

    def _answer(self, source: str, model: str, given: Given) -> None:
        client = source.encode()
        if self._unread.bytes_of(client) > UNREAD_LIMIT_BYTES:
            self._complaints += 1
            self._complaint = f"answers are dropped: source {source!r:.80} does not read them"
            return
        frame: Any = messages.write(model, source, given)
        if self._unread.add(client, len(frame)):
            frame, has_left = sockets.marked(frame)
            self._unread.mark(client, has_left)
        self._results.send([client, frame])  # whoever is not connected gets nothing

    def _look_around(self) -> None:
        self._look = self._loop.call_later(LOOK_S, self._look_around)
        self._unread.forget_quiet()
        self._complain()

    def _complain(self) -> None:
        if self._complaints:
            logs.get().warning("messages of clients are refused", count=self._complaints, last=self._complaint)
            self._complaints = 0
