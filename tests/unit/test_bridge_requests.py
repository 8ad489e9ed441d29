"""Requests as bridges build them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.requests import PRIORITY_LIMIT, TIMEOUT_LIMIT_US, Options, build, check_options, request_id
from inferoxy import messages as m
from inferoxy import wire
from inferoxy.errors import InvalidRequest


def test_bridge_fills_in_rows_key_and_size() -> None:
    tensors = [m.Tensor("a", "FP32", (3, 2)), m.Tensor("b", "INT8", (3,))]
    request = build("m", tensors, [b"x" * 24, b"y" * 3], Options(), parameters={}, outputs=[], form="tensors")
    assert (request.rows, request.size) == (3, 27)
    assert request.key == "a:FP32:2;b:INT8:"


def test_options_stand_in_the_header() -> None:
    options = Options("2", 5, -7, m.Sequence("s", start=True), "trace")
    request = build("m", [], [], options, parameters={"p": 1}, outputs=["o"], form="prediction", picture="png")
    assert (request.model_version, request.timeout_us, request.priority) == ("2", 5, -7)
    assert (request.sequence, request.trace) == (m.Sequence("s", start=True), "trace")
    assert wire.decode_payload(request.payload) == m.Payload([], {"p": 1}, ["o"], "prediction", "png")


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, object()])
def test_parameter_that_cannot_travel_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequest, match="64 bits"):
        build("m", [], [], Options(), parameters={"p": value}, outputs=[], form="tensors")


def test_shape_that_cannot_travel_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="64 bits"):
        build("m", [m.Tensor("a", "FP32", (0, 2**70))], [b""], Options(), parameters={}, outputs=[], form="tensors")


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
