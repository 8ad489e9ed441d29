"""Answers as ZeroMQ clients get them."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.zmq.answers import MAX_KEPT_BYTES, AnswerEncoder
from inferoxy import messages as m
from inferoxy import wire
from inferoxy.errors import Code, InferoxyError
from tests.requests_for_models import pack

SERVED = m.Served(120, 850, 1, "idle", "scale-1-0", "1", 0)
PLACES = wire.encode_payload(m.Places([None]))


def answer(parts: dict[str, bytes], prediction: Any = None, **more: Any) -> tuple[m.Response, list[Any]]:
    """A response of the batch manager with these tensors, and its frames."""
    tensors = [m.Tensor(name, "UINT8", (len(part),)) for name, part in parts.items()]
    data, frames = pack(tensors, list(parts.values()))
    payload = wire.encode_payload(m.ResultPayload(tensors, prediction, {"p": 1}))
    response = m.Response(
        id=99, payload=payload, served=SERVED, fate=m.SlotFate.SUSPECT, data=data, places=PLACES, **more
    )
    return response, frames


def shown(parts: list[Any]) -> tuple[m.Response, m.ResultPayload, list[bytes]]:
    """What a client reads."""
    ((response, frames),) = wire.decode(parts)
    return response, wire.decode_result(response.payload), [bytes(frame) for frame in frames]


def test_an_answer_is_the_documented_bytes_and_what_clients_ignore() -> None:
    tensor = m.Tensor("OUTPUT0", "FP32", (1, 2), 8)
    payload = wire.encode_payload(m.ResultPayload([tensor]))
    response = m.Response(id=99, payload=payload, served=SERVED, data=bytes.fromhex("00000040 00008040"))
    head, frame = AnswerEncoder().encode(7, response, ())
    literal = (
        "9c 010201 07 a0 a0 c3 93 91 95 a74f555450555430 a446503332 920102 c0 a0 c0 80"
        "97 78 cd0352 01 a469646c65 a97363616c652d312d30 a131 00"
        "00 c400 c0"
    )
    assert (head, frame) == (bytes.fromhex(literal), bytes.fromhex("00000040 00008040"))


@given(sizes=st.lists(st.sampled_from([0, 1, 7, 4_000, 4_096, 4_097, 9_000]), max_size=5), final=st.booleans())
def test_every_tensor_has_a_frame_of_its_own_and_nothing_internal_is_told(sizes: list[int], final: bool) -> None:
    parts = {f"t{at}": bytes([at]) * size for at, size in enumerate(sizes)}
    encoder = AnswerEncoder()
    for client_id in (1, 2**63 - 1):  # the second time its description is known
        response, payload, frames = shown(encoder.encode(client_id, *answer(parts, {"n": 1}, final=final)))
        assert (response.id, response.final, response.served) == (client_id, final, SERVED)
        assert (response.fate, response.data, response.places) == (m.SlotFate.FREE, b"", m.NO_PAYLOAD)
        assert frames == list(parts.values())
        assert payload == m.ResultPayload(
            [m.Tensor(name, "UINT8", (len(part),)) for name, part in parts.items()], {"n": 1}, {"p": 1}
        )


def test_answers_of_one_description_have_each_their_own_bytes() -> None:
    encoder = AnswerEncoder()
    found = [shown(encoder.encode(1, *answer({"a": part, "b": b"!"}))) for part in (b"one", b"two")]
    assert [frames for _, _, frames in found] == [[b"one", b"!"], [b"two", b"!"]]
    assert found[0][:2] == found[1][:2]


def test_a_large_description_is_not_kept_and_reads_the_same() -> None:
    encoder = AnswerEncoder()
    prediction = "x" * MAX_KEPT_BYTES
    for part in (b"one", b"two"):
        _, payload, frames = shown(encoder.encode(1, *answer({"a": part}, prediction)))
        assert (payload.prediction, payload.tensors, frames) == (prediction, [m.Tensor("a", "UINT8", (3,))], [part])


def test_an_answer_without_a_payload_has_none() -> None:
    for response in (
        m.Response(id=5, code=Code.MODEL_ERROR, error="no", fate=m.SlotFate.HELD),
        m.Response(id=5, final=True, served=SERVED),
    ):
        code, error, served = response.code, response.error, response.served
        ((found, frames),) = wire.decode(AnswerEncoder().encode(8, response, ()))
        assert found == m.Response(id=8, code=code, error=error, served=served)
        assert not frames


@pytest.mark.parametrize(
    ("sizes", "data", "frames"),
    [
        ([3], b"12", []), ([3], b"1234", []), ([3], b"123", [b"x"]), ([None], b"123", []),
        ([3, None], b"123", []), ([3, None], b"1234", [b"x"]), ([3, None], b"123", [b"x", b"y"]), ([3, 1], b"123", []),
    ],
)  # fmt: skip
def test_a_malformed_answer_is_our_fault_the_first_time_and_the_next(
    sizes: list[int | None], data: bytes, frames: list[bytes]
) -> None:
    payload = wire.encode_payload(m.ResultPayload([m.Tensor("t", "UINT8", (3,), size) for size in sizes]))
    encoder = AnswerEncoder()
    for _ in range(2):
        with pytest.raises(InferoxyError) as caught:
            encoder.encode(1, m.Response(payload=payload, data=data), frames)
        assert caught.value.code is Code.INTERNAL


def test_a_payload_that_cannot_be_read_is_our_fault() -> None:
    with pytest.raises(InferoxyError) as caught:
        AnswerEncoder().encode(1, m.Response(payload=msgspec.Raw(b"\x05"), data=b"123"), ())
    assert caught.value.code is Code.INTERNAL
