"""Requests as bridges build them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.requests import PRIORITY_LIMIT, TIMEOUT_LIMIT_US, Options, Prepared, check_options, request_id
from inferoxy import messages as m
from inferoxy import sockets, wire
from inferoxy.errors import InvalidRequest


def prepared(*tensors: tuple[m.Tensor, int], **more: Any) -> Prepared:
    wishes: dict[str, Any] = {"parameters": {}, "outputs": [], "form": "tensors", **more}
    return Prepared([tensor for tensor, _ in tensors], [size for _, size in tensors], **wishes)


def test_bridge_fills_in_rows_key_and_size() -> None:
    common = prepared((m.Tensor("a", "FP32", (3, 2)), 24), (m.Tensor("b", "INT8", (3,)), 3))
    request, _ = common.request("m", [b"x" * 24, b"y" * 3], Options(), "r")
    assert (request.model, request.rows, request.size, request.request_id) == ("m", 3, 27, "r")
    assert request.key == "a:FP32:2;b:INT8:"


def test_options_stand_in_the_header() -> None:
    options = Options("2", 5, -7, m.Sequence("s", start=True), "trace")
    common = prepared(parameters={"p": 1}, outputs=["o"], form="prediction", picture="png")
    request, _ = common.request("m", [], options, "r")
    assert (request.model_version, request.timeout_us, request.priority) == ("2", 5, -7)
    assert (request.sequence, request.trace) == (m.Sequence("s", start=True), "trace")
    assert wire.decode_payload(request.payload) == m.Payload([], {"p": 1}, ["o"], "prediction", "png")


def test_what_differs_from_request_to_request_is_not_in_the_payload() -> None:
    common = prepared((m.Tensor("a", "INT8", (3,)), 3), parameters={"p": 1})
    first, _ = common.request("m", [b"abc"], Options(), "r1")
    second, _ = common.request("n", [b"def"], Options("2", 5, -7, m.Sequence(1), "trace"), "r2")
    assert first.payload == second.payload
    assert (first.data, second.data) == (b"abc", b"def")


def test_a_request_can_be_changed_without_changing_the_next() -> None:
    common = prepared((m.Tensor("a", "INT8", (3,)), 3))
    first, _ = common.request("m", [b"abc"], Options(), "r")
    first.flags, first.places, first.timeout_us, first.id = 3, wire.encode_payload(m.Places()), 9, 9
    second, _ = common.request("m", [b"abc"], Options(), "r")
    assert (second.flags, second.places, second.timeout_us, second.id) == (0, m.NO_PAYLOAD, 0, 0)


def test_small_tensors_travel_inline_and_large_ones_in_frames_as_they_are() -> None:
    sizes = {"a": 3, "big": wire.INLINE_BYTES + 1, "b": 2}
    parts = [bytes([at]) * size for at, size in enumerate(sizes.values())]
    common = prepared(*[(m.Tensor(name, "UINT8", (size,)), size) for name, size in sizes.items()])
    request, frames = common.request("m", parts, Options(), "r")
    tensors = wire.decode_payload(request.payload).tensors
    assert [t.inline for t in tensors] == [3, None, 2]
    assert request.data == b"\0\0\0\2\2"
    assert [frame is parts[1] for frame in frames] == [True]


@given(sizes=st.lists(st.integers(0, 3 * wire.INLINE_BYTES // 2), max_size=5), as_views=st.booleans())
def test_every_tensor_arrives_as_it_was_sent(sizes: list[int], as_views: bool) -> None:
    whole = [bytes([at + 1]) * size for at, size in enumerate(sizes)]
    given_frames = [memoryview(part) for part in whole] if as_views else whole
    common = prepared(*[(m.Tensor(f"t{size}", "UINT8", (size,)), size) for size in sizes])
    request, frames = common.request("m", given_frames, Options(), "r")
    ((received, arrived),) = wire.decode(wire.encode(request, frames))
    assert len(received.data) <= wire.INLINE_BYTES
    found = wire.spread(wire.decode_payload(received.payload).tensors, received.data, arrived)
    assert [bytes(sockets.buffer(frame)) for frame in found] == whole


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, object()])
def test_parameter_that_cannot_travel_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequest, match="64 bits"):
        prepared(parameters={"p": value})


def test_shape_that_cannot_travel_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="64 bits"):
        prepared((m.Tensor("a", "FP32", (0, 2**70)), 0))


def test_the_callers_tensors_stay_as_they_were() -> None:
    tensor = m.Tensor("a", "INT8", (3,))
    prepared((tensor, 3))
    assert tensor == m.Tensor("a", "INT8", (3,))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (Options(timeout_us=-1), "timeout"),
        (Options(timeout_us=TIMEOUT_LIMIT_US + 1), "timeout"),
        (Options(priority=PRIORITY_LIMIT + 1), "priority"),
        (Options(trace="x" * 257), "trace"),
        (Options(sequence=m.Sequence("")), "sequence_id"),
        (Options(sequence=m.Sequence("x" * 257)), "sequence_id"),
        (Options(sequence=m.Sequence(-1)), "sequence_id"),
        (Options(sequence=m.Sequence(2**64)), "sequence_id"),
    ],
)
def test_option_out_of_range_is_refused_by_name(options: Options, field: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{field}"):
        check_options(options)


def test_ids_of_clients_are_kept_and_missing_ones_are_made_up() -> None:
    assert request_id("Root=1-67891233-abcdef012345678912345678") == "Root=1-67891233-abcdef012345678912345678"
    assert request_id("") != request_id("")


@given(st.text())
def test_no_id_breaks_a_header_or_a_log_line(text: str) -> None:
    kept = request_id(text)
    assert kept.isascii()
    assert kept.isprintable()
    assert 0 < len(kept) <= 128
