"""The client's side of the ZeroMQ protocol: which requests wait, until when, and whether the server is there.

Pure: callers pass `now` and a function that sends without blocking; sockets, threads and loops are zmq_transport.py's.
Invariants: a request is sent only to a server that was heard a moment ago; every waiter is resolved exactly once, by
its final answer, its deadline, the loss of the server or `close`; while nothing waits, nothing is sent.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from inferoxy import messages as m
from inferoxy import wire
from inferoxy.client.calls import CONNECT_S, ConnectionFailed, broken, unreachable
from inferoxy.errors import DeadlineExceeded, InferoxyError, InternalError, InvalidRequest, ModelUnavailable, error_from

PING_S = 0.5
RECONNECT_S = 0.01  # between pings that could not be sent
FRESH_S = 1.0  # a server heard so recently is taken to be there
LOST_S = 10.0  # a silent server may only be busy; after so long what it was sent counts as lost

Send = Callable[[Sequence[Any]], bool]


class Waiter(Protocol):
    """Where an outcome goes: a future of threads or of asyncio."""

    def done(self) -> bool:
        """Whether it has its outcome, or nobody waits any more."""

    def set_result(self, result: Any) -> None:
        """The answers."""

    def set_exception(self, exception: Any) -> None:
        """What happened instead."""


class Part(NamedTuple):
    """One answer, with its tensors' frames in order."""

    response: m.Response
    frames: Sequence[Any]


class Ask(NamedTuple):
    """A request to send; the outcome is a list of Part, the last one final."""

    request: m.Request
    frames: Sequence[Any]
    wait_s: float
    request_id: str = ""


class AskModels(NamedTuple):
    """The question what is registered; the outcome is a Models message."""


class _Open:
    __slots__ = ("ask", "deadline", "parts", "sent_at", "since", "timeout_us", "waiter")

    def __init__(self, ask: Ask, waiter: Waiter, now: float) -> None:
        self.ask = ask
        self.waiter = waiter
        self.since = now
        self.timeout_us = ask.request.timeout_us
        self.deadline = now + ask.wait_s
        self.sent_at: float | None = None
        self.parts: list[Part] = []


class Session:
    """One connection's open requests. `url` is for messages to people."""

    def __init__(self, url: str, send: Send) -> None:
        self._url = url
        self._send = send
        self._ids = itertools.count(1)
        self._open: dict[int, _Open] = {}
        self._questions: list[tuple[Waiter, float]] = []
        self._epoch = 0
        self._revision = 0  # of the newest Models message, which need not come with every Pong
        self._heard_at = float("-inf")
        self._refusal, self._is_certain = "", False
        self._next_ping = float("-inf")
        self._next_look = float("-inf")  # before this instant `tick` has nothing to do

    def submit(self, ask: Ask | AskModels, waiter: Waiter, now: float) -> int:
        """Take a question in; sent now or, when the server has not been heard lately, as soon as it is.

        Returns:
            Its number, for `abandon`; 0 for questions that are not requests.
        """
        self._next_look = min(self._next_look, now + PING_S)
        if not isinstance(ask, Ask):
            self._questions.append((waiter, now))
            self._ping(now)
            return 0
        number = next(self._ids)
        entry = self._open[number] = _Open(ask, waiter, now)
        if now - self._heard_at <= FRESH_S:
            self._send_out(number, entry, now)
        elif self._next_ping <= now:
            self._ping(now)
        return number

    def abandon(self, number: int) -> None:
        """Nobody waits for this request any more."""
        entry = self._open.pop(number, None)
        if entry is not None and entry.sent_at is not None:
            self._send(wire.encode(m.Cancel(ids=[number])))

    def handle(self, frames: Sequence[Any], now: float) -> None:
        """Take in a message from the server; everything fails when it is not of this protocol."""
        try:
            for header, tensors in wire.decode(frames):
                if type(header) is m.Response:
                    self._on_response(header, tensors)
                elif type(header) is m.Pong:
                    self._on_pong(header.epoch, now)
                elif type(header) is m.Models:
                    self._on_models(header)
        except InvalidRequest as exc:
            self.close(InternalError(f"{self._url} sent what is not Inferoxy's ZeroMQ protocol: {exc.message}"))

    def refused(self, why: str, is_certain: bool) -> None:
        """The server does not take the connection; that is why, should nothing be heard of it in time.

        A guess does not replace what is certain: an end that gives up first leaves the other one guessing.
        """
        if is_certain or not self._is_certain:
            self._refusal, self._is_certain = why, is_certain

    def tick(self, now: float) -> float | None:
        """Do what is due.

        Returns:
            When to call again at the latest; None while nothing waits.
        """
        if now < self._next_look:
            return self._next_look if self._open or self._questions else None
        for number, entry in list(self._open.items()):
            if now >= entry.deadline:
                self.abandon(number)
                _fail(entry.waiter, DeadlineExceeded(f"no answer from {self._url} within {entry.ask.wait_s:g} s"))
            elif entry.sent_at is None and now - max(self._heard_at, entry.since) > CONNECT_S:
                del self._open[number]
                _fail(entry.waiter, self._absent())
            elif entry.sent_at is not None and now - max(self._heard_at, entry.sent_at) > LOST_S:
                del self._open[number]
                _fail(entry.waiter, broken(self._url, f"nothing heard for {LOST_S:g} s"))
        for question in list(self._questions):
            if now - question[1] > CONNECT_S:
                self._questions.remove(question)
                is_there = now - self._heard_at <= FRESH_S
                why = "the server does not know yet what is registered: is its model manager running?"
                _fail(question[0], ModelUnavailable(why) if is_there else self._absent())
        if not self._open and not self._questions:
            self._next_look = float("inf")
            return None
        if now >= self._next_ping:
            self._ping(now)
        self._next_look = min([self._next_ping, *(entry.deadline for entry in self._open.values())])
        return self._next_look

    def close(self, reason: InferoxyError) -> None:
        """Fail everything that waits."""
        entries, self._open = list(self._open.values()), {}
        questions, self._questions = self._questions, []
        for waiter in [entry.waiter for entry in entries] + [question[0] for question in questions]:
            _fail(waiter, reason)

    def _absent(self) -> ConnectionFailed:
        return refused(self._url, self._refusal) if self._refusal else unreachable(self._url)

    def _send_out(self, number: int, entry: _Open, now: float) -> None:
        request = entry.ask.request
        request.id = number
        if entry.timeout_us:
            request.timeout_us = max(1, entry.timeout_us - int((now - entry.since) * 1e6))
        if self._send(wire.encode(request, entry.ask.frames)):
            entry.sent_at = now
        else:
            self._heard_at = float("-inf")  # not connected: wait for its next word
            self._ping(now)

    def _ping(self, now: float) -> None:
        is_sent = self._send(wire.encode(m.Ping(revision=0 if self._questions else self._revision)))
        self._next_ping = now + (PING_S if is_sent else RECONNECT_S)
        self._next_look = min(self._next_look, self._next_ping)

    def _on_response(self, response: m.Response, frames: Sequence[Any]) -> None:
        if not response.id and response.code:
            self.close(error_from(response.code, f"{self._url} did not understand the client: {response.error}"))
        entry = self._open.get(response.id)
        if entry is None:
            return
        if response.code:
            del self._open[response.id]
            _fail(entry.waiter, error_from(response.code, response.error, entry.ask.request_id))
            return
        if response.payload != m.NO_PAYLOAD:
            entry.parts.append(Part(response, frames))
        if response.final:
            del self._open[response.id]
            if not entry.waiter.done():
                entry.waiter.set_result(entry.parts)

    def _on_pong(self, epoch: int, now: float) -> None:
        heard_before, self._heard_at = self._heard_at, now
        self._refusal, self._is_certain = "", False
        if epoch != self._epoch:
            was_known, self._epoch, self._revision = self._epoch != 0, epoch, 0
            if was_known:
                self._on_restart(heard_before)
        for number, entry in list(self._open.items()):
            if entry.sent_at is None:
                self._send_out(number, entry, now)

    def _on_restart(self, heard_before: float) -> None:
        """The server forgot what it had. What was sent since its last word may be in new hands: send it again."""
        for number, entry in list(self._open.items()):
            if entry.sent_at is not None and entry.sent_at <= heard_before:
                del self._open[number]
                _fail(entry.waiter, broken(self._url, "the server was restarted, or ZeroMQ had to connect anew"))
            else:
                entry.sent_at = None

    def _on_models(self, models: m.Models) -> None:
        self._revision = models.revision
        questions, self._questions = self._questions, []
        for waiter, _ in questions:
            if not waiter.done():
                waiter.set_result(models)


def refused(url: str, why: str) -> ConnectionFailed:
    """The error for a server that is there, but does not take the connection."""
    return ConnectionFailed(f"cannot connect to {url}: {why}")


def _fail(waiter: Waiter, why: InferoxyError) -> None:
    if not waiter.done():
        waiter.set_exception(why)
