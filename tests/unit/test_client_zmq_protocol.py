"""Client operations as ZeroMQ messages, without a server: what is asked, and what is made of the answers."""

from typing import Any

import numpy as np
import pytest

from inferoxy import messages as m
from inferoxy import wire
from inferoxy.client.calls import Call, conclude
from inferoxy.client.pictures import EncodedPicture
from inferoxy.client.zmq_protocol import ZmqProtocol
from inferoxy.client.zmq_session import Ask, Part
from inferoxy.errors import InternalError, ModelError

PROTOCOL = ZmqProtocol()
PICTURE = EncodedPicture(b"\xff\xd8\xff picture", "jpeg", 40, 30)


def call(**more: Any) -> Call:
    return Call(**{"model": "tracker", "request_id": "r1", **more})


def asked(steps: Any) -> Ask:
    found: Ask = next(steps)
    return found


def part(*, final: bool = True, **result: Any) -> Part:
    payload = wire.encode_payload(m.ResultPayload([], **result))
    return Part(m.Response(payload=payload, final=final), [])


def test_a_step_of_a_sequence_says_so_in_its_header() -> None:
    for steps in (
        PROTOCOL.predict(call(sequence=m.Sequence("cam", True)), PICTURE, ""),
        PROTOCOL.infer(call(sequence=m.Sequence("cam", True)), {"x": np.zeros(1, np.float32)}, ()),
    ):
        assert asked(steps).request.sequence == m.Sequence("cam", True)
    assert asked(PROTOCOL.predict(call(), PICTURE, "")).request.sequence is None


def test_the_end_of_a_sequence_is_a_request_without_tensors() -> None:
    steps = PROTOCOL.end(call(version="2", timeout_s=1.5, sequence=m.Sequence(5, end=True)))
    ask = asked(steps)
    assert (ask.request.sequence, ask.request.model_version, ask.request.timeout_us) == (
        m.Sequence(5, end=True), "2", 1_500_000,
    )  # fmt: skip
    assert (wire.decode_payload(ask.request.payload), list(ask.frames)) == (m.Payload([]), [])
    assert conclude(steps, [part()]) is None


def test_all_answers_are_given_in_order() -> None:
    steps = PROTOCOL.predict_all(call(), PICTURE, "")
    asked(steps)
    found = conclude(steps, [part(final=False, prediction={"n": 1}), part(prediction={"n": 2})])
    assert [answer.value for answer in found] == [{"n": 1}, {"n": 2}]
    steps = PROTOCOL.infer_all(call(), {"x": np.zeros(1, np.float32)}, ())
    asked(steps)
    assert conclude(steps, []) == []


def test_an_operation_that_was_begun_is_concluded_with_its_error() -> None:
    steps = PROTOCOL.predict_all(call(), PICTURE, "")
    asked(steps)
    with pytest.raises(ModelError, match="no"):
        conclude(steps, None, ModelError("no"))


def test_an_operation_of_several_exchanges_cannot_be_begun_and_concluded_apart() -> None:
    def steps() -> Any:
        yield 1
        yield 2

    under_way = steps()
    next(under_way)
    with pytest.raises(InternalError, match="several exchanges"):
        conclude(under_way, None)
