"""A request's tensors are compared with the declared inputs, and read under the right names."""

from typing import Any

import pytest

from inferoxy.errors import InvalidRequest
from inferoxy.messages import Tensor, TensorSpec
from inferoxy.runtime.backend import Signature
from inferoxy.runtime.inputs import VARIES, Inputs, check_picture, holds_picture

VECTOR = TensorSpec("x", "FP32", (-1, 4))
SECOND = TensorSpec("y", "INT32", (-1, 2))
PICTURE = TensorSpec("image", "UINT8", (-1, -1, 3))
FIXED = TensorSpec("image", "UINT8", (-1, 8, 6, 3))


def _inputs(*specs: TensorSpec, stacked: bool = False, any_name: bool = False) -> Inputs:
    return Inputs(Signature(list(specs), [], 8, "test", any_picture_name=any_name), stacked, 8)


def test_inputs_are_put_into_the_models_order() -> None:
    found = [Tensor("y", "INT32", (3, 2)), Tensor("x", "FP32", (3, 4))]
    layout = _inputs(VECTOR, SECOND, stacked=True).find(found)
    assert [t.name for t in layout.tensors] == ["x", "y"]
    assert (layout.rows, layout.order, layout.sizes, layout.group) == (3, (1, 0), (24, 48), ((4,), (2,)))


def test_the_same_combination_is_read_once() -> None:
    inputs = _inputs(VECTOR)
    assert inputs.find([Tensor("x", "FP32", (3, 4))]) is inputs.find([Tensor("x", "FP32", (3, 4))])


def test_a_tensor_without_a_name_is_the_only_input() -> None:
    assert _inputs(VECTOR).find([Tensor("", "FP32", (1, 4))]).tensors[0].name == "x"
    with pytest.raises(InvalidRequest, match="input without a name: expected one of x, y"):
        _inputs(VECTOR, SECOND).find([Tensor("", "FP32", (1, 4))])


def test_an_encoded_picture_is_the_only_picture_input() -> None:
    found = [Tensor("", "UINT8", (5, 7, 3), encoding="jpeg"), Tensor("x", "FP32", (1, 4))]
    layout = _inputs(VECTOR, PICTURE).find(found)
    assert [(t.name, t.encoding) for t in layout.tensors] == [("x", ""), ("image", "jpeg")]
    assert layout.sizes == (VARIES, 16)
    assert layout.encoded


def test_a_raw_picture_may_have_any_name_where_only_a_picture_is_taken() -> None:
    raw = [Tensor("INPUT0", "UINT8", (5, 7, 3))]
    assert _inputs(PICTURE, any_name=True).find(raw).tensors[0].name == "image"
    with pytest.raises(InvalidRequest, match="input 'INPUT0': expected one of image"):
        _inputs(PICTURE).find(raw)


def test_a_picture_counts_as_one_row_of_a_stacked_input() -> None:
    layout = _inputs(FIXED, stacked=True).find([Tensor("", "UINT8", (8, 6, 3), encoding="png")])
    assert layout.rows == 1


@pytest.mark.parametrize(
    ("specs", "found", "words"),
    [
        ([VECTOR], [Tensor("z", "FP32", (1, 4))], "input 'z': expected one of x, found 'z'"),
        ([VECTOR], [], "input 'x': expected, not found in the request"),
        ([VECTOR], [Tensor("x", "FP32", (1, 4))] * 2, "input 'x': expected once, found twice"),
        ([VECTOR], [Tensor("x", "FP64", (1, 4))], "input 'x': expected datatype FP32, found FP64"),
        ([VECTOR], [Tensor("x", "FP32", (1, 5))], r"input 'x': expected shape \[-1, 4\], found \[1, 5\]"),
        ([VECTOR], [Tensor("x", "FP32", (-1, 4))], r"input 'x': shape \[-1, 4\] has a negative dimension"),
        ([VECTOR], [Tensor("x", "FP32", (9, 4))], "batch axis: expected 1 to 8 rows, found 9"),
        ([VECTOR], [Tensor("x", "FP32", (0, 4))], "batch axis: expected 1 to 8 rows, found 0"),
        (
            [VECTOR, SECOND],
            [Tensor("x", "FP32", (2, 4)), Tensor("y", "INT32", (3, 2))],
            r"inputs: expected the same batch axis .* found x \[2, 4\], y \[3, 2\]",
        ),
        (
            [VECTOR],
            [Tensor("", "UINT8", (5, 7, 3), encoding="jpeg")],
            r"input 'x': expected a FP32 \[-1, 4\] tensor, found an encoded jpeg picture",
        ),
        (
            [FIXED],
            [Tensor("image", "FP32", (8, 6, 3), encoding="jpeg")],
            "input 'image': expected datatype UINT8|shape",
        ),
    ],
)
def test_what_does_not_fit_is_refused_naming_both_values(specs: list[TensorSpec], found: Any, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        _inputs(*specs, stacked=True).find(found)


@pytest.mark.parametrize(
    ("datatype", "shape", "holds"),
    [
        ("UINT8", (-1, -1, 3), True),
        ("UINT8", (480, 640, 3), True),
        ("UINT8", (-1, 480, 640, 3), True),
        ("UINT8", (1, 480, 640, -1), True),
        ("UINT8", (4, 480, 640, 3), False),
        ("UINT8", (3, 480, 640), False),
        ("FP32", (-1, -1, 3), False),
        ("UINT8", (-1, 3), False),
    ],
)
def test_an_input_that_holds_a_picture_is_known_by_its_shape(
    datatype: str, shape: tuple[int, ...], holds: bool
) -> None:
    assert holds_picture(TensorSpec("image", datatype, shape)) is holds


def test_the_sides_of_a_decoded_picture_are_compared() -> None:
    check_picture(FIXED, (1, 8, 6, 3))
    with pytest.raises(InvalidRequest, match=r"input 'image': expected shape \[-1, 8, 6, 3\], found \[1, 6, 8, 3\]"):
        check_picture(FIXED, (1, 6, 8, 3))
