"""Sequences by tritonclient in its four forms, one request at a time."""

import pytest

from tests.compat.callers import Caller, Raised
from tests.compat.models import BIG
from tests.compat.questions import ONE, ROW, number, status


def step(triton: Caller, sequence_id: int | str, value: int, start: bool = False, end: bool = False) -> int:
    found = triton.call(
        "infer", model="sums", inputs=number(value), sequence_id=sequence_id, sequence_start=start, sequence_end=end
    )
    answer: int = found["outputs"]["SUM"]["data"][0]
    return answer


@pytest.mark.parametrize("sequence_id", [7, 2**53 + 1, 2**63 - 1, "a string", "7"], ids=str)
def test_a_sequence_keeps_its_sum(triton: Caller, sequence_id: int | str) -> None:
    assert step(triton, sequence_id, 1, start=True) == 1
    assert step(triton, sequence_id, 2) == 3
    assert step(triton, sequence_id, 3, end=True) == 6
    with pytest.raises(Raised) as caught:
        step(triton, sequence_id, 4)
    assert caught.value.status == status(triton, "INVALID_ARGUMENT", "400")


def test_over_http_ids_have_64_bits(http: Caller) -> None:
    assert step(http, 2**64 - 1, 1, start=True) == 1
    assert step(http, 2**64 - 1, 2, end=True) == 3


def test_a_start_begins_a_living_sequence_anew(triton: Caller) -> None:
    assert step(triton, 11, 5, start=True) == 5
    assert step(triton, 11, 7, start=True) == 7
    assert step(triton, 11, 1, end=True) == 8


def test_ids_that_differ_in_their_last_bit_are_two_sequences(triton: Caller) -> None:
    assert step(triton, BIG - 1, 1, start=True) == 1
    assert step(triton, BIG, 10, start=True) == 10
    assert step(triton, BIG - 1, 1, end=True) == 2
    assert step(triton, BIG, 10, end=True) == 20


def test_a_refused_step_leaves_the_sum_alone(triton: Caller) -> None:
    assert step(triton, 12, 5, start=True) == 5
    with pytest.raises(Raised):
        triton.call("infer", model="sums", inputs=[{**ONE, "shape": [2], "data": [1, 2]}], sequence_id=12)
    assert step(triton, 12, 1, end=True) == 6


def test_a_sequence_model_refuses_a_request_of_no_sequence(triton: Caller) -> None:
    with pytest.raises(Raised, match="sequence") as caught:
        triton.call("infer", model="sums", inputs=number())
    assert caught.value.status == status(triton, "INVALID_ARGUMENT", "400")


def test_a_sequence_id_on_a_stateless_model_is_harmless(triton: Caller) -> None:
    found = triton.call("infer", model="scale", inputs=[ROW], sequence_id=9, sequence_start=True)
    assert found["outputs"]["SUM"]["data"] == [[10.0]]


def test_sequences_of_http_and_grpc_share_one_name_space(callers: dict[str, Caller]) -> None:
    assert step(callers["http"], 501, 1, start=True) == 1
    assert step(callers["grpc"], 501, 2) == 3
    assert step(callers["grpc.aio"], 501, 3) == 6
    assert step(callers["http.aio"], 501, 4, end=True) == 10
