"""What users write about a load, and the inputs that are made up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferoxy.bench.plan import Tensor, parse_levels, parse_tensor, split_slots, synthesize, tensor_for
from inferoxy.errors import InvalidRequest
from inferoxy.messages import TensorSpec
from inferoxy.tensors import DTYPES


@pytest.mark.parametrize(
    ("text", "tensor"),
    [
        ("INPUT0:FP32:1x16", Tensor("INPUT0", "FP32", (1, 16))),
        ("a:b:uint8:640X640x3", Tensor("a:b", "UINT8", (640, 640, 3))),
        ("text:BYTES:2", Tensor("text", "BYTES", (2,))),
        ("n:INT64:", Tensor("n", "INT64", ())),
    ],
)
def test_a_tensor_is_name_datatype_and_shape(text: str, tensor: Tensor) -> None:
    assert parse_tensor(text) == tensor
    assert parse_tensor(str(tensor)) == tensor


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("INPUT0:FP32", "expected NAME:DATATYPE:SHAPE"),
        (":FP32:1", "expected NAME:DATATYPE:SHAPE"),
        ("x:FLOAT:1", "datatype: expected one of"),
        ("x:FP32:1x-2", "expected a shape such as 1x16, found '1x-2'"),
        ("x:FP32:1xx2", "expected a shape"),
        ("x:FP64:99999x99999", "expected at most"),
        ("x:BF16:1", "BF16"),
    ],
)
def test_a_wrong_tensor_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        parse_tensor(text)


@pytest.mark.parametrize("datatype", [name for name in DTYPES if name != "BF16"])
def test_made_up_values_have_the_wanted_type_and_are_the_same_for_a_seed(datatype: str) -> None:
    tensor = Tensor("x", datatype, (4, 5))
    made = synthesize(tensor, 1)
    assert made.dtype == DTYPES[datatype]
    assert made.shape == (4, 5)
    assert (made == synthesize(tensor, 1)).all()
    assert len(np.unique(made)) > 1
    assert not (made == synthesize(Tensor("y", datatype, (4, 5)), 1)).all()


def test_made_up_texts_are_bytes() -> None:
    assert synthesize(Tensor("x", "BYTES", (2, 1)), 0).tolist() == [[b"inferoxy"], [b"inferoxy"]]


def test_free_dimensions_of_a_declared_input_are_one_but_those_of_a_picture() -> None:
    assert tensor_for(TensorSpec("x", "FP32", (-1, 16, -1))).shape == (1, 16, 1)
    assert tensor_for(TensorSpec("image", "UINT8", (-1, -1, 3))).shape == (480, 640, 3)
    assert tensor_for(TensorSpec("image", "UINT8", (32, -1, 3))).shape == (32, 640, 3)


def test_levels_are_positive_numbers() -> None:
    assert parse_levels("1,16,64", "--concurrency", whole=True) == [1, 16, 64]
    assert parse_levels("0.5,1e3", "--rate", whole=False) == [0.5, 1000.0]
    for text in ("", "0", "-1", "1,,2", "x", "nan", "inf"):
        with pytest.raises(InvalidRequest, match="--rate: expected positive numbers"):
            parse_levels(text, "--rate", whole=False)
    with pytest.raises(InvalidRequest, match="expected positive whole numbers"):
        parse_levels("1.5", "--concurrency", whole=True)


@given(st.integers(1, 500), st.integers(1, 64))
def test_slots_are_shared_out_evenly_and_none_is_lost(slots: int, processes: int) -> None:
    if processes > slots:
        with pytest.raises(InvalidRequest, match="processes: expected at most"):
            split_slots(slots, processes)
        return
    parts = split_slots(slots, processes)
    assert (sum(parts), len(parts)) == (slots, processes)
    assert max(parts) - min(parts) <= 1
