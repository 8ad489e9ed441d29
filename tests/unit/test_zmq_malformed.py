"""What ZeroMQ clients are told of messages that cannot be read."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.zmq.malformed import explain, id_of
from inferoxy import messages as m
from inferoxy import wire
from inferoxy.errors import InvalidRequest

pack = msgspec.msgpack.encode


def told(frame: bytes) -> str:
    with pytest.raises(InvalidRequest) as found:
        list(wire.decode([frame]))
    return explain(found.value, frame).message


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ([1, 1, "a"], "frames: expected int, found str"),
        ([1, 1, 0, 5, "m", [[]], 3], "model_version: expected str, found int"),
        ([1, 1, 0, 5, "m", [[]], "", 0, None], "priority: expected int, found nil"),
        ([1, 1, 0, 5, "m", [[]], "", 0, 0, 5], "sequence: expected array or nil, found int"),
        ([1, 1, 0, 5, "m", [[]], "", 0, 0, []], "sequence: expected at least 1 elements, found 0"),
        ([1, 1, 0, 5, "m", [[]], "", 0, 0, [None]], "sequence.id: expected int or str, found nil"),
        ([1, 1, 0, 5, "m", [[]], "", 0, 0, [1, True, 0]], "sequence.end: expected bool, found int"),
        ([1, 3, 0, [1, "x"]], "ids[1]: expected int, found str"),
        ([1, 4, 0, 1.5], "revision: expected int, found float"),
    ],
)
def test_a_wrong_field_of_a_header_is_named(header: list[Any], message: str) -> None:
    assert told(pack(header)) == message


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (None, "payload: expected array, found nil"),
        ([[], 5], "payload.parameters: expected map, found int"),
        ([[], {1: 2}], "payload.parameters: expected str, found int"),
        ([[], {}, ["a", 1]], "payload.outputs[1]: expected str, found int"),
        ([[], {}, [], "x"], "payload.form: expected 'tensors' or 'prediction', found 'x'"),
        ([[], {}, [], "tensors", "gif"], "payload.picture: expected '' or 'jpeg' or 'png', found 'gif'"),
        ([[["a", "FP32", [1]], 5]], "payload.tensors[1]: expected array, found int"),
        ([[["a", "FP32", [1.5]]]], "payload.tensors[0].shape[0]: expected int, found float"),
    ],
)
def test_a_wrong_field_of_a_payload_is_named(payload: Any, message: str) -> None:
    with pytest.raises(InvalidRequest) as found:
        wire.decode_payload(msgspec.Raw(pack(payload)))
    assert explain(found.value).message == message


def test_what_is_no_header_is_described_by_what_it_begins_with() -> None:
    head = "header: expected a msgpack array of [version, kind, frames, ...], found "
    for frame, found in (
        (b"", "an empty frame"),
        (b"\x81\xa1a\x01", "a map"),
        (b"\x91\x01", "an array of too few elements"),
    ):
        assert told(frame) == head + found
    assert told(b"GET / HTTP/1.1") == head + "a first byte 0x47"


def test_other_errors_stay_as_they_are() -> None:
    for message in ("id: expected 1..5, found 0", "header of kind HELLO: Expected `int`, got `str`"):
        assert explain(InvalidRequest(message)).message == message


def test_the_id_of_a_request_that_cannot_be_read_otherwise_is_found() -> None:
    assert id_of(pack([1, 1, 0, 7, 5])) == 7
    for header in (
        [1, 1, 0],
        [1, 1, 0, 0],
        [1, 1, 0, -7],
        [1, 1, 0, True],
        [1, 1, 0, "7"],
        [1, 3, 0, 7],
        [2, 1, 0, 7],
        7,
    ):
        assert id_of(pack(header)) == 0


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=20,
)


@given(
    st.lists(plain, max_size=8), st.sampled_from([m.Kind.REQUEST, m.Kind.CANCEL, m.Kind.PING]), st.binary(max_size=3)
)
def test_whatever_cannot_be_read_is_explained_without_positions(fields: list[Any], kind: int, rest: bytes) -> None:
    frame = pack([1, int(kind), 0, *fields]) + rest
    problem = None
    try:
        for header, _ in wire.decode([frame]):
            if isinstance(header, m.Request):
                wire.decode_payload(header.payload)
    except InvalidRequest as exc:
        problem = explain(exc, frame)
    if problem is not None:
        assert "$" not in problem.message.partition(", found")[0]
        assert ": expected " in problem.message
    assert id_of(frame) >= 0


@given(st.binary(max_size=64))
def test_no_bytes_break_the_search_for_an_id(frame: bytes) -> None:
    assert id_of(frame) >= 0
