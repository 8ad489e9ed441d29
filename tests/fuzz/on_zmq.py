"""Messages of ZeroMQ clients, and all other messages of our wire: the frame decoder and the way in behind it."""

from random import Random
from typing import Any

import msgspec
import numpy as np

from bridges.requests import Frames
from bridges.zmq.admission import Admission
from bridges.zmq.answers import AnswerEncoder
from bridges.zmq.sequences import HeldSequences
from inferoxy import messages as m
from inferoxy import wire
from inferoxy.errors import InferoxyError, InternalError, InvalidRequest
from inferoxy.tensors import DTYPES, encode_strings
from tests.fuzz.encodings import to_msgpack
from tests.fuzz.mutations import mutate_bytes, mutate_parts, mutate_tree
from tests.fuzz.pictures import corpus, mutate_picture
from tests.fuzz.target import Input
from tests.fuzz.world import KINDS, LIMITS, World

CLIENTS = (b"\0abcd", b"someone")
PAYLOAD = m.Request.__struct_fields__.index("payload")


class Messages:
    """One ZeroMQ message of one or more envelopes."""

    name = "zmq messages"

    def __init__(self) -> None:
        self._world = World()
        self._admission = Admission(LIMITS)
        self._sequences = HeldSequences()
        self._answers = AnswerEncoder()
        self._pictures = corpus()
        self._requests = _requests(self._pictures)
        self._others = [(msgspec.msgpack.decode(wire.encode(h, f)[0]), f) for h, f in _others()]

    def make(self, chance: Random) -> Input:
        """See Target."""
        parts: list[bytes] = []
        for _ in range(chance.choice((1, 1, 1, 2))):
            parts += self._envelope(chance)
        if chance.random() < 0.1:
            parts = mutate_parts(parts, chance)
        if chance.random() < 0.2 and parts:
            at = chance.randrange(len(parts))
            parts[at] = mutate_bytes(parts[at], chance, self._pictures, chance.randint(1, 3))
        return parts

    def _envelope(self, chance: Random) -> list[bytes]:
        if chance.random() < 0.2:
            header, frames = chance.choice(self._others)
            return [to_msgpack(mutate_tree(header, chance, chance.randint(1, 3))), *frames]
        request, frames = chance.choice(self._requests)
        header = msgspec.msgpack.decode(wire.encode(request, frames)[0])
        scope = chance.random()
        if scope < 0.5:
            header[PAYLOAD] = mutate_tree(header[PAYLOAD], chance, chance.randint(1, 2))
        elif scope < 0.8:
            header = mutate_tree(header, chance, chance.randint(1, 3))
        if frames and chance.random() < 0.3:
            at = chance.randrange(len(frames))
            changed = mutate_picture(frames[at], chance, self._pictures)
            frames = [*frames[:at], changed, *frames[at + 1 :]]
        return [to_msgpack(header), *frames]

    def run(self, given: Input) -> None:
        """See Target."""
        client = CLIENTS[len(given) % len(CLIENTS)]
        reasons: list[InferoxyError] = []
        for header, frames in wire.decode(given):
            if isinstance(header, m.Request):
                try:
                    self._request(client, header, frames)
                except InferoxyError as exc:
                    reasons.append(exc)
            elif isinstance(header, m.Cancel):
                self._world.cancel([number for number in header.ids if isinstance(number, int)])
            else:
                for item, own in wire.each(header, frames):
                    wire.encode(item, own)
        if reasons:
            raise reasons[0]

    def _request(self, client: bytes, header: m.Request, frames: Frames) -> None:
        view = self._world.models.find(header.model, header.model_version)
        is_step = header.sequence is not None and (view is None or not view.spec.stateless)
        request, tensors = self._admission.admit(header, frames, client.hex() if is_step else "", view)
        if is_step:
            self._sequences.check(client, request)
            self._sequences.sent(client, request)
        for answer in self._world.serve(request, tensors):
            if is_step:
                self._sequences.answered(client, request, answer.response.code)
            for told, own in wire.decode(self._answers.encode(header.id, answer.response, answer.frames)):
                if not told.code and told.payload != m.NO_PAYLOAD:
                    wire.spread(wire.decode_result(told.payload).tensors, told.data, own)


class Results:
    """What an instance answers, up to the message that the client gets."""

    name = "zmq answers"

    def __init__(self) -> None:
        self._answers = AnswerEncoder()
        tensor = m.Tensor("OUT", "FP32", (1, 4), 16)
        drawn = m.Tensor("picture", "UINT8", (2, 2, 3), None, "png")
        self._trees = [
            msgspec.msgpack.decode(wire.encode_payload(payload))
            for payload in (
                m.ResultPayload([tensor]),
                m.ResultPayload([tensor, tensor], {"boxes": [[1.5, 2.5, 3.5, 4.5]]}, {"a": 1}),
                m.ResultPayload([drawn], ["x", None]),
                m.ResultPayload([], {"a": {"b": []}}),
            )
        ]

    def make(self, chance: Random) -> Input:
        """See Target."""
        payload = to_msgpack(mutate_tree(chance.choice(self._trees), chance, chance.randint(0, 3)))
        data = bytes(16 * chance.randint(0, 3))
        if chance.random() < 0.3:
            payload = mutate_bytes(payload, chance)
        return [payload, data, *(bytes(8) for _ in range(chance.choice((0, 0, 1, 2))))]

    def run(self, given: Input) -> None:
        """See Target. An instance that breaks the protocol is an error of ours, and told as such."""
        payload, data, *frames = given
        response = m.Response(id=5, payload=msgspec.Raw(payload), data=data)
        try:
            self._answers.encode(5, response, frames)
        except InternalError as exc:
            raise InvalidRequest(exc.message) from exc


def _requests(pictures: list[bytes]) -> list[tuple[m.Request, list[bytes]]]:
    """Valid requests of all kinds."""

    def request(model: str, payload: m.Payload, frames: list[bytes], **fields: Any) -> tuple[m.Request, list[bytes]]:
        fields = {"id": 7, "timeout_us": 1_000_000} | fields
        return m.Request(model=model, payload=wire.encode_payload(payload), **fields), frames

    rows = m.Payload([m.Tensor("IN", "FP32", (1, 4))])
    number = m.Payload([m.Tensor("IN", "INT32", (2,))])
    made = [
        request("rows", rows, [bytes(16)], model_version="1", request_id="abc-1", trace="t", priority=5),
        request("rows", m.Payload([m.Tensor("IN", "FP32", (3, 4))], outputs=["OUT"]), [bytes(48)]),
        request("rows", m.Payload([m.Tensor("IN", "FP32", (512, 4))]), [bytes(8_192)]),
        request("words", m.Payload([m.Tensor("WORDS", "BYTES", (2,))]), [encode_strings([b"ab", b""])]),
        request("cold", rows, [bytes(16)]),
        request("sum", number, [bytes(8)], sequence=m.Sequence(5, True, False)),
        request("sum", number, [bytes(8)], sequence=m.Sequence(5, False, False)),
        request("sum", number, [bytes(8)], sequence=m.Sequence("camera", True, True)),
        request("sum", m.Payload([]), [], sequence=m.Sequence(5, False, True)),
        _every_kind(),
    ]
    for data in pictures:
        encoding = "jpeg" if data[:2] == b"\xff\xd8" else "png" if data[:4] == b"\x89PNG" else "webp"
        tensor = m.Tensor("", "UINT8", (), encoding=encoding)
        parameters = {"confidence": 0.5, "init": {"a": 1}, "name": "é"}
        made.append(request("picture", m.Payload([tensor], parameters, form="prediction", picture="png"), [data]))
    plain = m.Payload([m.Tensor("image", "UINT8", (2, 3, 3))], form="prediction")
    return [*made, request("picture", plain, [bytes(18)])]


def _every_kind() -> tuple[m.Request, list[bytes]]:
    """A request with a tensor of each datatype."""
    tensors = [m.Tensor(kind, kind, (2,)) for kind in KINDS]
    frames = [np.zeros(2, dtype).tobytes() for dtype in DTYPES.values()]
    payload = wire.encode_payload(m.Payload(tensors))
    return m.Request(id=8, model="kinds", payload=payload), [*frames, encode_strings([b"a", b"b"])]


def _others() -> list[tuple[m.Header, list[bytes]]]:
    """Messages of every other kind, as they are made by default, and some that hold more."""
    held = {m.Request, m.Requests, m.Responses}
    plain: list[tuple[m.Header, list[bytes]]] = [(kind(), []) for kind in m.Header.__subclasses__() if kind not in held]
    response = m.Response(id=1, frames=1, payload=wire.encode_payload(m.ResultPayload([])), served=m.Served(1, 2, 3))
    views = [m.ModelView(m.ModelSpec(name="rows", artifact="/a"), inputs=[m.TensorSpec("IN", "FP32", (-1, 4))])]
    return [
        *plain,
        (m.Requests(items=[m.Request(id=1, frames=1), m.Request(id=2)]), [b"x"]),
        (m.Responses(items=[response, response]), [b"x", b"y"]),
        (m.Cancel(ids=[1, 2, 3]), []),
        (m.Models(revision=1, models=views), []),
    ]
