"""Clients of the ZeroMQ bridge: requests, sequences, cancelled requests, and messages that nobody should send."""

import asyncio
import itertools
from random import Random
from typing import Any

from inferoxy import messages as m
from inferoxy import sockets, wire
from tests.drill.garbage import client_messages, mutated
from tests.drill.questions import DATATYPE, INPUT, Question
from tests.drill.zmq_port import ZmqPort
from tests.load.talk import Place, Said, Turn, double, judged, steps

STEPS = 4
LARGE = 1 << 15
SHARE = 4

_users = itertools.count()
_ports: list[tuple[ZmqPort, "asyncio.Future[None]"]] = []


def unary(place: Place) -> Turn:
    """One request at a time, now and then a large one."""
    port, ready = _shared(place)

    async def turn() -> Said:
        await ready
        number = next(place.numbers)
        question = double(number, LARGE if number % 16 == 0 else 16)
        return judged(question, await port.ask(question))

    return turn


def sequences(place: Place) -> Turn:
    """Whole sequences, all steps of one sent at once."""
    port, ready = _shared(place)

    async def turn() -> Said:
        await ready
        questions = steps(place, STEPS)
        replies = await asyncio.gather(*(port.ask(question) for question in questions))
        said = [judged(question, reply) for question, reply in zip(questions, replies, strict=True)]
        return next((one for one in said if one.code), Said())

    return turn


def pipelined(place: Place) -> Turn:
    """Many requests at once on one socket."""
    port, ready = _shared(place)

    async def turn() -> Said:
        await ready
        questions = [double(next(place.numbers)) for _ in range(8)]
        replies = await asyncio.gather(*(port.ask(question) for question in questions))
        said = [judged(question, reply) for question, reply in zip(questions, replies, strict=True)]
        return next((one for one in said if one.code), Said())

    return turn


def cancelled(place: Place) -> Turn:
    """Sends a request and its CANCEL, sometimes twice, and goes on with a new connection now and then."""
    raw = _Raw(place)

    async def turn() -> Said:
        number = next(place.numbers)
        raw.send(_request(number, double(number)))
        if number % 3:
            raw.send(wire.encode(m.Cancel(ids=[number, number + 1])))
        await asyncio.sleep(number % 5 * 0.002)
        if number % 10 == 0:
            raw.renew()
        return Said()

    return turn


def bad_inputs(place: Place) -> Turn:
    """Mutated messages; whatever comes back is read and left."""
    raw = _Raw(place)
    chance = Random(place.first)
    good = client_messages()

    async def turn() -> Said:
        number = next(place.numbers)
        raw.send(mutated(chance.choice(good), chance))
        if number % 50 == 0:
            raw.renew()
        await asyncio.sleep(0)
        return Said()

    return turn


def _shared(place: Place) -> tuple[ZmqPort, "asyncio.Future[None]"]:
    """A socket and when it is open; SHARE clients have one together, which is how DEALERs are meant to be used."""
    if next(_users) % SHARE == 0:
        port = ZmqPort(place.addresses["zmq"])
        _ports.append((port, asyncio.ensure_future(port.open())))
    return _ports[-1]


def faults() -> list[str]:
    """Answers that came twice."""
    return [fault for port, _ in _ports for fault in port.faults]


class _Raw:
    """A socket on which anything may be sent."""

    def __init__(self, place: Place) -> None:
        self._endpoint = place.addresses["zmq"]
        self._context = sockets.context()
        self._socket = sockets.dealer(self._context, self._endpoint)

    def send(self, parts: list[Any]) -> None:
        """Send, unless the other side does not read; read what has come."""
        sockets.send(self._socket, parts)
        for _ in range(20):
            if not sockets.is_readable(self._socket) or sockets.recv(self._socket) is None:
                return

    def renew(self) -> None:
        """Go on as another client."""
        self._socket.close(0)
        self._socket = sockets.dealer(self._context, self._endpoint)


def _request(number: int, question: Question) -> list[Any]:
    payload = wire.encode_payload(m.Payload([m.Tensor(INPUT, DATATYPE, question.shape)]))
    return wire.encode(m.Request(id=number, model=question.model, payload=payload), [question.data])
