"""Tensors in system shared memory, as tritonclient in its four forms puts them there."""

from typing import Any

import pytest

from tests.compat.callers import Caller, Raised

ROW = {"name": "IN", "datatype": "FP32", "shape": [2, 4], "data": [1, 2, 3, 4, 5, 6, 7, 8]}


def test_inputs_are_read_from_and_outputs_written_to_regions(triton: Caller) -> None:
    request = {"inputs": [ROW], "outputs": {"SCALED": ["FP32", [2, 4], 32], "SUM": ["FP32", [2, 1], 8]}}
    [found] = triton.call("through_memory", model="scale", requests=[request])
    assert found["placed"] == {"SCALED": [[2, 4, 6, 8], [10, 12, 14, 16]], "SUM": [[10], [26]]}
    assert found["outputs"] == {
        "SCALED": {"datatype": "FP32", "shape": [2, 4]}, "SUM": {"datatype": "FP32", "shape": [2, 1]},
    }  # fmt: skip


def test_a_place_larger_than_the_output_is_fine_and_a_smaller_one_is_refused(triton: Caller) -> None:
    large = {"inputs": [ROW], "outputs": {"SUM": ["FP32", [2, 1], 4096]}}
    [found] = triton.call("through_memory", model="scale", requests=[large])
    assert found["placed"] == {"SUM": [[10], [26]]}
    small = {"inputs": [ROW], "outputs": {"SUM": ["FP32", [1, 1], 4]}}
    with pytest.raises(Raised) as caught:
        triton.call("through_memory", model="scale", requests=[small])
    assert caught.value.status == ("StatusCode.INVALID_ARGUMENT" if triton.is_grpc else "400")


def test_an_output_in_a_region_leaves_the_others_in_the_answer(triton: Caller) -> None:
    request = {"inputs": [ROW], "outputs": {"SCALED": ["FP32", [2, 4], 32]}, "plain": ["SUM"]}
    [found] = triton.call("through_memory", model="scale", requests=[request])
    assert found["placed"] == {"SCALED": [[2, 4, 6, 8], [10, 12, 14, 16]]}
    assert found["outputs"]["SUM"]["data"] == [[10], [26]]


def test_one_region_holds_input_and_output_at_any_offset(triton: Caller) -> None:
    assert triton.call("one_region", model="scale", inputs=[ROW], output="SUM", count=2) == [10, 26]


def test_strings_lie_in_regions_too(triton: Caller) -> None:
    words = {"name": "WORDS", "datatype": "BYTES", "shape": [2], "data": ["one", "two\u00e9"]}
    request = {"inputs": [words], "outputs": {"UPPER": ["BYTES", [2], 64]}}
    [found] = triton.call("through_memory", model="words", requests=[request])
    assert found["placed"] == {"UPPER": ["ONE", "TWO\u00e9"]}


def test_every_request_reads_its_region_anew(triton: Caller) -> None:
    requests = [
        {"inputs": [{**ROW, "data": [n] * 8}], "outputs": {"SUM": ["FP32", [2, 1], 8]}} for n in range(5)
    ]  # fmt: skip
    found = triton.call("through_memory", model="scale", requests=requests)
    assert [each["placed"]["SUM"] for each in found] == [[[4.0 * n]] * 2 for n in range(5)]


def test_a_region_is_registered_once_within_its_object_and_forgotten(triton: Caller) -> None:
    made, status, again, too_long, gone, gone_again, unknown = triton.call("regions", name="region")
    assert made is None
    assert described(triton, status) == {"name": "region", "offset": 16, "byte_size": 32}
    assert again["status"] == ("StatusCode.ALREADY_EXISTS" if triton.is_grpc else "400")
    assert "region" in again["message"]
    assert too_long["status"] == ("StatusCode.INVALID_ARGUMENT" if triton.is_grpc else "400")
    assert gone is None
    assert gone_again is None
    assert unknown["raised"] == "InferenceServerException"


def described(triton: Caller, status: Any) -> dict[str, Any]:
    found = status["regions"]["region"] if triton.is_grpc else status[0]
    return {"name": found["name"], "offset": int(found["offset"]), "byte_size": int(found["byte_size"])}


def test_a_region_that_nobody_registered_is_refused(triton: Caller) -> None:
    inputs = [{"name": "IN", "datatype": "FP32", "shape": [1, 4], "place": ["nosuch", 16, 0]}]
    with pytest.raises(Raised, match="nosuch") as caught:
        triton.call("infer", model="scale", inputs=inputs)
    assert caught.value.status == ("StatusCode.INVALID_ARGUMENT" if triton.is_grpc else "400")


def test_cuda_memory_cannot_be_registered(triton: Caller) -> None:
    with pytest.raises(Raised, match=r"(?i)cuda") as caught:
        triton.call("register_cuda")
    assert caught.value.kind == "InferenceServerException"
