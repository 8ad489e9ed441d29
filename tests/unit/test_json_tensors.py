"""Tensors in JSON."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.rest import json_tensors
from inferoxy.errors import InferoxyError, InvalidRequest
from inferoxy.messages import Tensor
from inferoxy.tensors import BYTES, DTYPES, from_bytes

NUMERIC = sorted(set(DTYPES) - {"BOOL", "FP16", "BF16", "FP32", "FP64"})


def decode(datatype: str, shape: tuple[int, ...], text: str) -> Any:
    return from_bytes("x", datatype, shape, json_tensors.decode("x", datatype, shape, msgspec.Raw(text.encode())))


def encode(datatype: str, shape: tuple[int, ...], data: bytes) -> list[Any]:
    return json_tensors.encode(Tensor("x", datatype, shape), memoryview(data))


@given(data=st.data(), datatype=st.sampled_from(NUMERIC))
def test_integers_survive_exactly(data: st.DataObject, datatype: str) -> None:
    limits = np.iinfo(DTYPES[datatype])
    items = data.draw(st.lists(st.integers(int(limits.min), int(limits.max)), max_size=20))
    array = decode(datatype, (len(items),), msgspec.json.encode(items).decode())
    assert array.tolist() == items
    assert encode(datatype, (len(items),), array.tobytes()) == items


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=20))
def test_fp32_reads_back_the_same(items: list[float]) -> None:
    raw = np.array(items, "<f4").tobytes()
    text = msgspec.json.encode(encode("FP32", (len(items),), raw)).decode()
    assert decode("FP32", (len(items),), text).tobytes() == raw


@given(st.lists(st.floats(width=16), max_size=20))
def test_fp16_reads_back_the_same(items: list[float]) -> None:
    finite = [x for x in items if math.isfinite(x)]
    raw = np.array(finite, "<f2").tobytes()
    assert decode("FP16", (len(finite),), msgspec.json.encode(finite).decode()).tobytes() == raw


def test_bf16_is_rounded_to_nearest_even() -> None:
    assert decode("BF16", (5,), "[1.0, -2.5, 1.00390625, 1.01171875, 3.4e38]").tolist() == [
        0x3F80, 0xC020, 0x3F80, 0x3F82, 0x7F80,
    ]  # fmt: skip
    assert encode("BF16", (2,), b"\x80\x3f\x20\xc0") == [1.0, -2.5]


def test_nested_lists_mean_the_same_as_flat_ones() -> None:
    nested = decode("INT32", (2, 3), "[[1, 2, 3], [4, 5, 6]]")
    assert nested.tolist() == decode("INT32", (2, 3), "[1, 2, 3, 4, 5, 6]").tolist() == [[1, 2, 3], [4, 5, 6]]


def test_bool_and_bytes_are_true_false_and_strings() -> None:
    assert decode("BOOL", (2,), "[true, false]").tolist() == [True, False]
    assert decode(BYTES, (2, 1), '[["ä"], [""]]').tolist() == [["ä".encode()], [b""]]
    assert encode("BOOL", (2,), b"\1\0") == [True, False]
    assert encode(BYTES, (2,), b"\2\0\0\0\xc3\xa4\0\0\0\0") == ["ä", ""]


def test_scalar_shape_takes_one_element() -> None:
    assert decode("FP32", (), "[2.5]").shape == ()


def test_integers_are_taken_for_floats() -> None:
    assert decode("FP64", (2,), "[1, 2.5]").tolist() == [1.0, 2.5]


@pytest.mark.parametrize(
    ("datatype", "shape", "text", "message"),
    [
        ("FP32", (2,), "[1.0]", "expected 2 elements for \\[2\\], found 1"),
        ("FP32", (-1,), "[]", "negative dimension"),
        ("UINT8", (1,), "[256]", "out of the range of UINT8"),
        ("UINT8", (1,), "[-1]", "out of the range of UINT8"),
        ("INT64", (1,), "[9223372036854775808]", "out of the range of INT64"),
        ("UINT64", (1,), "[36893488147419103232]", "out of the range|expected UINT64 elements"),
        ("INT32", (1,), "[1.5]", "expected INT32 elements, found float"),
        ("INT32", (1,), "[true]", "expected INT32 elements, found bool"),
        ("BOOL", (1,), "[1]", "expected BOOL elements, found int"),
        ("FP32", (1,), '["1"]', "expected FP32 elements, found str"),
        ("FP32", (1,), "[null]", "expected FP32 elements, found null"),
        (BYTES, (1,), "[1]", "expected BYTES elements, found int"),
        ("FP32", (3,), "[[1, 2], [3]]", "equal lengths"),
        ("FP32", (2,), "[[1], 2]", "expected FP32 elements, found list"),
        ("FP32", (1,), '{"a": 1}', "expected a list of FP32 elements, found dict"),
        ("FP32", (1,), "1", "expected a list"),
        ("FLOAT", (1,), "[1]", "expected one of BOOL"),
    ],
)
def test_wrong_data_is_refused_with_what_was_found(
    datatype: str, shape: tuple[int, ...], text: str, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        json_tensors.decode("x", datatype, shape, msgspec.Raw(text.encode()))


def test_bytes_that_are_no_text_are_refused_with_a_way_out() -> None:
    with pytest.raises(InvalidRequest, match="binary_data"):
        encode(BYTES, (1,), b"\1\0\0\0\xff")


def test_infinity_and_nan_become_what_json_has() -> None:
    raw = np.array([np.nan, np.inf], "<f4").tobytes()
    assert msgspec.json.encode(encode("FP32", (2,), raw)) == b"[null,null]"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda x: st.lists(x, max_size=4),
    max_leaves=12,
)


@given(
    datatype=st.sampled_from([*DTYPES, BYTES, "x"]), shape=st.lists(st.integers(-1, 4), max_size=3), value=json_values
)
def test_arbitrary_json_raises_only_our_errors(datatype: str, shape: list[int], value: Any) -> None:
    try:
        json_tensors.decode("x", datatype, tuple(shape), msgspec.Raw(msgspec.json.encode(value)))
    except InferoxyError:
        pass
