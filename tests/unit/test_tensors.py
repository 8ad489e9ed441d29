"""Datatypes, shapes and bytes of tensors."""

import time

import pytest

from inferoxy.errors import InvalidRequest
from inferoxy.tensors import MAX_DIMENSIONS, check_outputs, check_size, count_elements


@pytest.mark.parametrize(("shape", "count"), [((), 1), ((3, 0, 5), 0), ((2, 3), 6), ((1,) * MAX_DIMENSIONS, 1)])
def test_elements_are_the_product_of_the_dimensions(shape: tuple[int, ...], count: int) -> None:
    assert count_elements("x", shape) == count


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, -1), "negative dimension"),
        ((2**62, 4), "at most 2.63 - 1 elements"),
        ((2**62,) * 300, "at most 64 dimensions, found 300"),
        ((2**62,) * 200_000, "at most 64 dimensions, found 200000"),
    ],
)
def test_a_shape_that_no_tensor_has_is_refused_at_once(shape: tuple[int, ...], message: str) -> None:
    began = time.process_time()
    for refuse in (lambda: count_elements("x", shape), lambda: check_size("x", "FP32", shape, 4)):
        with pytest.raises(InvalidRequest, match=message):
            refuse()
    assert time.process_time() - began < 0.5


def test_an_output_is_wanted_once_and_many_are_compared_quickly() -> None:
    names = [f"o{number}" for number in range(100_000)]
    check_outputs(names)
    began = time.process_time()
    with pytest.raises(InvalidRequest, match="output 'o7': expected once, found 3 times"):
        check_outputs([*names, "o7", "o7"])
    assert time.process_time() - began < 0.5
