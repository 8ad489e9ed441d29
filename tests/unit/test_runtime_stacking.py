"""Requests are joined and split without mixing them up."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferoxy.errors import ModelError
from inferoxy.messages import TensorSpec
from inferoxy.runtime.buffers import SMALL_BYTES, Buffers
from inferoxy.runtime.stacking import Snapshot, as_declared, check, join
from inferoxy.tensors import DTYPES, encode_strings, from_bytes, to_bytes

SPEC = TensorSpec("y", "FP32", (-1, 2))


def _parts(rows: list[int], datatype: str, shape: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(len(rows))
    return [rng.integers(0, 2, (count, *shape)).astype(DTYPES[datatype]) for count in rows]


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=12),
    st.sampled_from(list(DTYPES)),
    st.sampled_from([(), (3,), (2, 4), (200, 30)]),
    st.booleans(),
    st.booleans(),
)
def test_what_is_split_is_what_was_joined(
    rows: list[int], datatype: str, shape: tuple[int, ...], writable: bool, fresh: bool
) -> None:
    parts = _parts(rows, datatype, shape)
    chunks = [to_bytes(part) if index % 2 else part for index, part in enumerate(parts)]
    whole = join(chunks, datatype, rows, shape, Buffers().take, writable)
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    assert whole.dtype == DTYPES[datatype]
    back = [
        from_bytes("y", datatype, (count, *shape), raw)
        for count, raw in zip(rows, Snapshot(whole, fresh).split(rows), strict=True)
    ]
    for found, part in zip(back, parts, strict=True):
        np.testing.assert_array_equal(found, part)


@given(st.lists(st.lists(st.binary(max_size=6), min_size=1, max_size=3), min_size=1, max_size=5))
def test_bytes_elements_are_joined_and_split_too(parts: list[list[bytes]]) -> None:
    rows = [len(part) for part in parts]
    whole = join([encode_strings(part) for part in parts], "BYTES", rows, (), Buffers().take, True)
    assert whole.tolist() == [item for part in parts for item in part]
    assert Snapshot(whole, True).split(rows) == [encode_strings(part) for part in parts]


@pytest.mark.parametrize("count", [1, SMALL_BYTES])
def test_a_joined_batch_may_be_written_to(count: int) -> None:
    raw = np.ones((1, count), np.uint8).tobytes()
    for chunks in ([raw], [raw, raw]):
        whole = join(chunks, "UINT8", [1] * len(chunks), (count,), Buffers().take, True)
        whole += 1
        assert raw[0] == 1


def test_a_lone_request_is_not_copied_for_a_backend_that_only_reads() -> None:
    raw = np.arange(4, dtype=np.float32).tobytes()
    whole = join([raw], "FP32", [1], (4,), Buffers().take, False)
    assert np.shares_memory(whole, np.frombuffer(raw, np.float32))


def test_parts_of_an_array_that_may_change_are_copies() -> None:
    array = np.zeros((2, SMALL_BYTES), np.uint8)
    kept, view = Snapshot(array, False).split([1, 1])[0], Snapshot(array, True).split([1, 1])[0]
    array += 1
    assert (kept[0], view[0]) == (0, 1)


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        (None, "result: expected a dict of arrays, found NoneType"),
        ({}, "outputs: expected y, found none"),
        ({"z": np.zeros((2, 2), np.float32)}, "outputs: expected y, found z"),
        ({"y": np.zeros((2, 2), np.float32), "z": 1}, "outputs: expected y, found y, z"),
        ({"y": np.zeros((1, 2), np.float32)}, "output 'y': expected 2 rows, as many as the inputs, found 1"),
        ({"y": np.zeros((2, 3), np.float32)}, r"output 'y': expected shape \[-1, 2\], found \[2, 3\]"),
        ({"y": np.zeros(2, np.float32)}, r"output 'y': expected shape \[-1, 2\], found \[2\]"),
        ({"y": np.zeros((2, 2))}, "output 'y': expected FP32, found dtype float64"),
        ({"y": [["a", "b"], ["c", "d"]]}, "output 'y': expected FP32"),
        ({"y": np.float64(3)}, "output 'y': expected FP32, found dtype float64"),
    ],
)
def test_a_wrong_result_is_the_models_error_naming_both_values(outputs: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        check(outputs, [SPEC], 2)


def test_what_is_no_array_is_converted_to_the_declared_datatype() -> None:
    found = check({"y": [[1, 2], [3, 4]]}, [SPEC], 2)["y"]
    assert found.dtype == np.float32
    assert found.tolist() == [[1, 2], [3, 4]]
    assert as_declared(0.5, TensorSpec("p", "FP32", ())).tolist() == 0.5
    assert as_declared(["a"], TensorSpec("s", "BYTES", (1,))).dtype == object


def test_big_endian_results_are_turned_around() -> None:
    found = as_declared(np.array([[1, 2]], ">f4"), SPEC)
    assert found.tobytes() == np.array([[1, 2]], "<f4").tobytes()
