"""Open Inference Protocol bodies over HTTP."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.rest import v2_body
from bridges.results import Output
from bridges.v2_outputs import Delivered
from bridges.v2_regions import Regions
from inferoxy.errors import InferoxyError, InvalidRequest
from inferoxy.messages import Served, Tensor

FLOATS = np.arange(16, dtype="<f4")


def body_of(content: Any, *blobs: bytes) -> tuple[dict[bytes, bytes], memoryview]:
    head = msgspec.json.encode(content)
    return {b"inference-header-content-length": b"%d" % len(head)}, memoryview(head + b"".join(blobs))


def binary(name: str, array: np.ndarray, datatype: str = "FP32", **more: Any) -> dict[str, Any]:
    size = {"binary_data_size": array.nbytes}
    return {"name": name, "shape": array.shape, "datatype": datatype, "parameters": size, **more}


def read(headers: dict[bytes, bytes], body: memoryview) -> tuple[v2_body.InferBody, list[memoryview]]:
    head, blob = v2_body.split(headers, body)
    found = v2_body.parse(head)
    return found, found.cut(blob, Regions(is_allowed=False))


def parse(content: Any, *blobs: bytes) -> tuple[v2_body.InferBody, list[memoryview]]:
    return read(*body_of(content, *blobs))


def test_binary_tensor_is_a_slice_of_the_body_not_a_copy() -> None:
    headers, body = body_of({"inputs": [binary("a", FLOATS.reshape(1, 16))]}, FLOATS.tobytes())
    found, frames = read(headers, body)
    assert found.inputs == [Tensor("a", "FP32", (1, 16))]
    assert frames[0].obj is body.obj
    assert bytes(frames[0]) == FLOATS.tobytes()


def test_binary_and_json_inputs_may_be_mixed() -> None:
    json_input = {"name": "b", "shape": [2], "datatype": "INT32", "data": [1, 2]}
    other = np.arange(3, dtype=np.uint8)
    content = {"inputs": [binary("a", FLOATS), json_input, binary("c", other, "UINT8")]}
    _, frames = parse(content, FLOATS.tobytes(), other.tobytes())
    assert [bytes(f) for f in frames] == [FLOATS.tobytes(), b"\1\0\0\0\2\0\0\0", b"\0\1\2"]


def test_without_the_header_the_whole_body_is_json() -> None:
    body = msgspec.json.encode({"id": "7", "inputs": [{"name": "a", "shape": [1], "datatype": "FP32", "data": [1]}]})
    found, _ = read({}, memoryview(body))
    assert (found.id, found.binary_default) == ("7", False)


def test_header_length_may_equal_the_body() -> None:
    _, frames = parse({"inputs": [{"name": "a", "shape": [1], "datatype": "FP32", "data": [1]}]})
    assert bytes(frames[0]) == b"\0\0\x80\x3f"


def test_nulls_and_unknown_fields_mean_nothing() -> None:
    item = {"name": "a", "shape": [1], "datatype": "BOOL", "data": [True], "parameters": None, "x": 1}
    found, _ = parse({"inputs": [item], "id": None, "parameters": None, "outputs": None, "more": {}})
    assert (found.id, found.parameters, found.outputs) == ("", {}, [])


def test_outputs_say_their_form_and_the_rest_has_the_default() -> None:
    outputs = [{"name": "a", "parameters": {"binary_data": False}}, {"name": "b"}, {"name": "c", "parameters": None}]
    content = {"inputs": [binary("x", FLOATS)], "outputs": outputs, "parameters": {"binary_data_output": True}}
    found, _ = parse(content, FLOATS.tobytes())
    assert (found.outputs, found.binary, found.binary_default) == (["a", "b", "c"], {"a": False}, True)


@pytest.mark.parametrize("content", [{}, {"inputs": []}])
def test_there_may_be_no_inputs(content: dict[str, Any]) -> None:
    found, frames = parse({**content, "parameters": {"sequence_id": 5, "sequence_end": True}})
    assert (found.inputs, frames) == ([], [])


ONE = {"name": "a", "shape": [1], "datatype": "UINT8"}


@pytest.mark.parametrize(
    ("content", "blobs", "message"),
    [
        ([], [], "inference request as JSON"),
        ({"inputs": []}, [b"x"], "expected 0 binary bytes .* found 1"),
        ({"inputs": [{"name": "a"}]}, [], "shape"),
        ({"inputs": [ONE]}, [], "expected one of data, binary_data_size, shared_memory_region, found none"),
        (
            {"inputs": [{**ONE, "data": [1], "parameters": {"binary_data_size": 1}}]},
            [b"x"],
            "found data and binary_data_size",
        ),
        (
            {"inputs": [{**ONE, "parameters": {"binary_data_size": 4}}]},
            [b"xy"],
            "expected 4 binary bytes, found 2 left",
        ),
        ({"inputs": [{**ONE, "parameters": {"binary_data_size": 1}}]}, [b"xy"], "expected 1 binary bytes .* found 2"),
        ({"inputs": [{**ONE, "parameters": {"binary_data_size": -1}}]}, [], "at least 0, found -1"),
        ({"inputs": [{**ONE, "parameters": {"binary_data_size": True}}]}, [], "at least 0, found True"),
        ({"inputs": [{**ONE, "parameters": {"binary_data_size": "1"}}]}, [], "at least 0"),
        (
            {"inputs": [{**ONE, "parameters": {"shared_memory_region": "r"}}]},
            [],
            "expected shared_memory_byte_size with",
        ),
        ({"inputs": [{**ONE, "name": "n" * 300, "data": [1]}]}, [], "at most 256 characters"),
        ({"inputs": [{**ONE, "data": [1]}], "id": 5}, [], "id"),
        ({"inputs": [{**ONE, "data": [1]}], "parameters": {"binary_data_output": 1}}, [], "binary_data_output"),
        (
            {"inputs": [{**ONE, "data": [1]}], "outputs": [{"name": "o", "parameters": {"classification": -3}}]},
            [],
            "a classification of 0..65536, found -3",
        ),
        (
            {"inputs": [{**ONE, "data": [1]}], "outputs": [{"name": "o", "parameters": {"binary_data": 1}}]},
            [],
            "binary_data",
        ),
    ],
)
def test_what_the_protocol_does_not_allow_is_refused(content: Any, blobs: list[bytes], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        parse(content, *blobs)


@pytest.mark.parametrize("length", [b"-1", b"abc", b"", b"1.5", b"99999", b"1" * 40, "١".encode()])
def test_lying_header_length_is_refused(length: bytes) -> None:
    _, body = body_of({"inputs": [binary("a", FLOATS)]}, FLOATS.tobytes())
    with pytest.raises(InvalidRequest, match="Inference-Header-Content-Length"):
        v2_body.split({v2_body.HEADER_LENGTH: length}, body)


def test_header_length_that_cuts_the_json_is_refused() -> None:
    _, body = body_of({"inputs": [binary("a", FLOATS)]}, FLOATS.tobytes())
    with pytest.raises(InvalidRequest, match="as JSON"):
        read({v2_body.HEADER_LENGTH: b"20"}, body)


def test_invalid_utf8_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        v2_body.parse(memoryview(b'{"inputs":[{"name":"\xff","shape":[1],"datatype":"FP32","data":[1]}]}'))


def test_deep_nesting_is_refused_not_fatal() -> None:
    with pytest.raises(InvalidRequest):
        v2_body.parse(memoryview(b'{"inputs":[{"name":"a","shape":[1],"datatype":"FP32","data":' + b"[" * 200_000))


def answer(body: v2_body.InferBody, *outputs: Output) -> tuple[dict[bytes, bytes], Any, bytes]:
    delivered = [Delivered(output) for output in outputs]
    found = v2_body.format_answer(body, "m", "3", delivered, {}, "rid", Served(closed="full"))
    content = b"".join(found.parts)
    headers = dict(found.headers)
    assert (headers[b"x-request-id"], headers[b"x-inferoxy-closed"]) == (b"rid", b"full")
    assert headers[b"content-length"] == b"%d" % len(content)
    length = int(headers.get(v2_body.HEADER_LENGTH, len(content)))
    return headers, msgspec.json.decode(content[:length]), content[length:]


OUT = [
    Output(Tensor("p", "FP32", (2,)), memoryview(np.array([1.5, 2.5], "<f4").tobytes())),
    Output(Tensor("q", "UINT8", (1, 2)), memoryview(b"\7\10")),
]


def test_json_answer_has_no_binary_header() -> None:
    headers, content, rest = answer(parse({"id": "i", "inputs": [{**ONE, "data": [1]}]})[0], *OUT)
    assert headers[b"content-type"] == b"application/json"
    assert v2_body.HEADER_LENGTH not in headers
    assert rest == b""
    assert content == {
        "id": "i",
        "model_name": "m",
        "model_version": "3",
        "outputs": [
            {"name": "p", "datatype": "FP32", "shape": [2], "data": [1.5, 2.5]},
            {"name": "q", "datatype": "UINT8", "shape": [1, 2], "data": [7, 8]},
        ],
    }


def test_binary_answer_has_the_blobs_in_the_order_of_outputs() -> None:
    body, _ = parse({"inputs": [{**ONE, "data": [1]}], "parameters": {"binary_data_output": True}})
    headers, content, rest = answer(body, *OUT)
    assert headers[b"content-type"] == b"application/octet-stream"
    assert [o["parameters"]["binary_data_size"] for o in content["outputs"]] == [8, 2]
    assert rest == bytes(OUT[0].data) + bytes(OUT[1].data)
    assert "id" not in content


def test_an_outputs_own_wish_beats_the_default() -> None:
    outputs = [{"name": "p", "parameters": {"binary_data": False}}, {"name": "q"}]
    body, _ = parse({"inputs": [{**ONE, "data": [1]}], "outputs": outputs, "parameters": {"binary_data_output": True}})
    _, content, rest = answer(body, *OUT)
    assert content["outputs"][0]["data"] == [1.5, 2.5]
    assert rest == b"\7\10"


@given(head=st.binary(max_size=200), length=st.none() | st.binary(max_size=5))
def test_arbitrary_bodies_raise_only_our_errors(head: bytes, length: bytes | None) -> None:
    try:
        read({} if length is None else {v2_body.HEADER_LENGTH: length}, memoryview(head))
    except InferoxyError:
        pass


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from(["name", "data", "binary_data_size"]), x),
    max_leaves=8,
)
names = st.sampled_from(["id", "inputs", "outputs", "parameters"])
fields = st.sampled_from(["name", "shape", "datatype", "parameters", "data"])
plausible = st.dictionaries(
    names, json_values | st.lists(st.dictionaries(fields, json_values | st.just([1]) | st.just("FP32")), max_size=2)
)


@given(content=plausible, blob=st.binary(max_size=20))
def test_plausible_bodies_raise_only_our_errors(content: Any, blob: bytes) -> None:
    try:
        parse(content, blob)
    except InferoxyError:
        pass
