"""`POST /infer` apart from its way through the server: numbers, faults and outputs."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import ValidationError

from bridges.legacy.outputs import Given
from bridges.rest import first, json_numbers
from inferoxy.errors import InvalidRequest

GOOD: dict[str, Any] = {"source_id": "s", "model": "m", "inputs": [{"data": [[1, 2, 3]], "parameters": {}}]}


def encoded(value: Any) -> memoryview:
    return memoryview(json.dumps(value).encode())


# Numbers


@given(
    arrays.arrays(st.sampled_from(["u1", "i8", "f8", "?"]), arrays.array_shapes(max_dims=4, max_side=4)), st.booleans()
)
def test_lists_are_the_arrays_that_numpy_makes_of_them(array: Any, is_wide: bool) -> None:
    if array.dtype == np.float64 and not np.isfinite(array).all():
        return
    text = json.dumps(array.tolist(), indent=2 if is_wide else None).encode()
    found = json_numbers.read(text)
    assert np.array_equal(found, array)
    assert found.shape == array.shape


@pytest.mark.parametrize(
    "value", [[], [7], [[7]], [[[1, 2]], [[3, 4]]], [0, 255], [0, 256], [-1], [2**63 - 1], [1, 2.5]]
)
def test_lists_of_any_nesting_are_read(value: Any) -> None:
    found = json_numbers.read(json.dumps(value).encode())
    assert np.array_equal(found, np.array(value))
    assert found.shape == np.array(value).shape


@pytest.mark.parametrize(
    "text",
    [
        b"", b"7", b"{}", b'"x"', b"null", b"[", b"[1", b"[1]]", b"[[1,2],[3]]", b"[[1,2],[3,4,5],[6]]", b"[1,[2]]",
        b"[[],[1]]", b"[[]]", b"[[[1]],[2]]", b'["1"]', b"[null]", b"[1,null]", b"[,]", b"[1,,2]", b"[[1],]", b"[1 2]",
        b"[[1][2]]", b"[1]x", b"[true,1]", b"[nan]", b"[1e]", b"[99999999999999999999999]", b"[" * 100_000,
        b"[" * 9 + b"1" + b"]" * 9, b"[-9223372036854775809]", b"[\xff]", b"[[1,2],[3,4]", b"]1[",
    ],
)  # fmt: skip
def test_what_is_no_regular_list_of_numbers_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidRequest, match="data: expected"):
        json_numbers.read(text)


@given(arrays.arrays("u1", arrays.array_shapes(max_dims=3, max_side=9)))
def test_pixels_are_written_as_a_flat_list(array: Any) -> None:
    assert json.loads(json_numbers.write(array)) == array.ravel().tolist()


def test_no_pixels_are_an_empty_list() -> None:
    assert json.loads(json_numbers.write(np.zeros((0, 0, 3), np.uint8))) == []


# The body


def test_a_body_is_read() -> None:
    body = first.read_body(encoded({**GOOD, "more": 1}))
    assert (body.source_id, body.model) == ("s", "m")
    sent = body.inputs[0].sent()
    assert np.array_equal(sent.data, [[1, 2, 3]])
    assert (sent.shape, sent.datatype, sent.parameters) == (None, None, {})


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        ({}, [(["body", "source_id"], "missing"), (["body", "model"], "missing"), (["body", "inputs"], "missing")]),
        ({**GOOD, "inputs": [{}]}, [(["body", "inputs", 0, "data"], "missing"),
                                    (["body", "inputs", 0, "parameters"], "missing")]),
        ({**GOOD, "source_id": 7}, [(["body", "source_id"], "string_type")]),
        ({**GOOD, "model": None}, [(["body", "model"], "string_type")]),
        ({**GOOD, "inputs": "x"}, [(["body", "inputs"], "list_type")]),
        ({**GOOD, "inputs": [7]}, [(["body", "inputs", 0], "model_type")]),
        ({**GOOD, "inputs": [{**GOOD["inputs"][0], "datatype": "fp64"}]},
         [(["body", "inputs", 0, "datatype"], "literal_error")]),
        ({**GOOD, "inputs": [{**GOOD["inputs"][0], "shape": [1, "2"]}]},
         [(["body", "inputs", 0, "shape", 1], "int_type")]),
        ({**GOOD, "inputs": [{**GOOD["inputs"][0], "parameters": []}]},
         [(["body", "inputs", 0, "parameters"], "dict_type")]),
        ([], [(["body"], "model_type")]),
        ("x", [(["body"], "model_type")]),
        (None, [(["body"], "model_type")]),
    ],
)  # fmt: skip
def test_all_faults_of_a_body_are_told_in_fastapis_form(body: Any, faults: list[tuple[list[Any], str]]) -> None:
    with pytest.raises(first.Unprocessable) as failed:
        first.read_body(encoded(body))
    assert [(fault["loc"], fault["type"]) for fault in failed.value.detail] == faults
    assert all(fault["msg"] for fault in failed.value.detail)
    answer = first.unprocessable(failed.value, "rid")
    assert answer.status == 422
    assert set(json.loads(b"".join(answer.parts))) == {"detail"}


@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, b"\xff", b'{"source_id": "\xff"}', b"{} {}"])
def test_a_body_that_is_no_json_is_told_so(body: bytes) -> None:
    with pytest.raises(first.Unprocessable) as failed:
        first.read_body(memoryview(body))
    (fault,) = failed.value.detail
    assert (fault["type"], fault["loc"], fault["msg"]) == ("json_invalid", ["body", 0], "JSON decode error")


def test_an_empty_body_is_missing() -> None:
    with pytest.raises(first.Unprocessable) as failed:
        first.read_body(memoryview(b""))
    assert failed.value.detail == [{"type": "missing", "loc": ["body"], "msg": "Field required", "input": None}]


def test_many_faults_and_long_values_are_told_in_part() -> None:
    with pytest.raises(first.Unprocessable) as failed:
        first.read_body(encoded({**GOOD, "model": ["x" * 10_000], "inputs": [{}] * 10_000}))
    assert len(failed.value.detail) == 100
    assert len(json.dumps(failed.value.detail)) < 20_000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["source_id", "model", "inputs", "data", "shape", "datatype", "parameters"]), inner, max_size=7),
    max_leaves=20,
)  # fmt: skip


@given(JSON)
def test_what_is_read_and_what_is_documented_are_the_same(value: Any) -> None:
    try:
        first.InferBody.model_validate(value, strict=True)
        is_documented = True
    except ValidationError:
        is_documented = False
    try:
        first.read_body(encoded(value))
        is_read = True
    except first.Unprocessable:
        is_read = False
    assert is_read == is_documented


# Outputs


def test_an_output_stands_as_clients_read_it() -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert json.loads(first.encode_output(Given(picture, {"a": [1]}, {"index": 7}, None))) == {
        "shape": [2, 2, 3], "datatype": "uint8", "data": list(range(12)), "output": {"a": [1]},
        "parameters": {"index": 7}, "error": None,
    }  # fmt: skip
    assert json.loads(first.encode_output(Given(None, None, {}, "[E001]: gone"))) == {
        "shape": None, "datatype": None, "data": None, "output": None, "parameters": {}, "error": "[E001]: gone",
    }  # fmt: skip


def test_a_prediction_that_json_cannot_hold_is_an_error_of_its_output() -> None:
    found = json.loads(first.encode_output(Given(None, {"x": object()}, {"index": 7}, None)))
    assert found["error"].startswith("[MODEL_ERROR]: the model's prediction cannot be JSON")


def test_an_answer_is_whole_json() -> None:
    body = first.Body('s"', "m", [])
    outputs = [first.encode_output(Given(None, number, {}, None)) for number in range(3)]
    for count in range(4):
        found = json.loads(b"".join(first.answer_parts(body, outputs[:count])))
        assert (found["model"], found["source_id"]) == ("m", 's"')
        assert [output["output"] for output in found["outputs"]] == list(range(count))
    assert msgspec.json.decode(b"".join(first.answer_parts(body, [])))["outputs"] == []
