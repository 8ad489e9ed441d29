"""Outputs as they are wanted: classes, places in shared memory."""

import os
import secrets
from collections.abc import Iterator

import numpy as np
import pytest

from bridges.results import Output
from bridges.v2_outputs import Wanted, classified, deliver, wanted_of
from bridges.v2_regions import FOLDER, Place, Regions
from inferoxy.errors import InvalidRequest
from inferoxy.messages import Tensor
from inferoxy.tensors import datatype_of, decode_strings, to_bytes

NAMES = {"names": "{0: 'cat', 1: 'dog', 2: 'bird'}"}


def output(array: np.ndarray, name: str = "y") -> Output:
    return Output(Tensor(name, datatype_of(array), array.shape), memoryview(to_bytes(array)))


def strings(found: Output) -> list[str]:
    return [item.decode() for item in decode_strings("y", found.tensor.shape, found.data).ravel().tolist()]


@pytest.fixture
def regions() -> Iterator[Regions]:
    key = f"test-{os.getpid()}-{secrets.token_hex(4)}"
    (FOLDER / key).write_bytes(bytes(64))
    found = Regions(is_allowed=True)
    found.register("r", key, 0, 64)
    (FOLDER / key).unlink()
    yield found
    found.unregister()


def test_classes_are_the_largest_values_with_index_and_label() -> None:
    found = classified(output(np.array([0.1, 0.7, 0.2], np.float32)), 2, ["cat", "dog"], stacked=False)
    assert (found.tensor.datatype, found.tensor.shape) == ("BYTES", (2,))
    assert strings(found) == ["0.700000:1:dog", "0.200000:2"]


def test_each_row_of_a_batch_is_ranked_by_itself_and_equal_values_by_index() -> None:
    found = classified(output(np.array([[1, 5, 5], [9, 0, 3]], np.int32)), 5, [], stacked=True)
    assert found.tensor.shape == (2, 3)
    assert strings(found) == ["5:1", "5:2", "1:0", "9:0", "3:2", "0:1"]


@pytest.mark.parametrize("array", [np.array([b"a"], object), np.array(1.5, np.float32)])
def test_what_has_no_numbers_has_no_classes(array: np.ndarray) -> None:
    with pytest.raises(InvalidRequest, match="expected numbers for classification"):
        classified(output(array), 1, [], stacked=False)


@pytest.mark.parametrize("names", ["", "{", "5", "{'a': 1}", "__import__('os')", "[" * 500])
def test_names_that_are_no_names_give_no_labels(regions: Regions, names: str) -> None:
    made = deliver(
        [output(np.array([1, 2], np.int32))], [Wanted("y", classes=1)], regions, {"names": names}, stacked=False
    )
    assert strings(made[0].output) == ["2:1"]


def test_delivered_outputs_are_placed_classified_or_as_they_are(regions: Regions) -> None:
    x, y, z = (output(np.arange(3, dtype=np.int32) * n, name) for n, name in enumerate("xyz", 1))
    wanted = [Wanted("y", place=Place("r", 20, 4)), Wanted("z", classes=1)]
    made = deliver([x, y, z], wanted, regions, NAMES, stacked=False)
    assert [found.is_placed for found in made] == [False, True, False]
    assert made[0].output == x
    assert bytes(regions.read(Place("r", 16, 0))) == bytes(4) + bytes(y.data)
    assert strings(made[2].output) == ["6:2:bird"]


def test_nothing_is_written_when_one_output_does_not_fit(regions: Regions) -> None:
    outputs = [output(np.ones(4, np.uint8), "a"), output(np.ones(4, np.uint8), "b")]
    wanted = [Wanted("a", place=Place("r", 4, 0)), Wanted("b", place=Place("r", 3, 8))]
    with pytest.raises(InvalidRequest, match="output 'b': expected a shared_memory_byte_size of at least 4, found 3"):
        deliver(outputs, wanted, regions, {}, stacked=False)
    assert bytes(regions.read(Place("r", 64, 0))) == bytes(64)


def test_parameters_of_a_wanted_output() -> None:
    assert wanted_of("y") == wanted_of("y", {}) == Wanted("y")
    assert wanted_of("y", {"binary_data": False, "classification": 3, "other": None}) == Wanted("y", False, 3)
    for bad in ({"binary_data": 1}, {"classification": -1}, {"classification": True}, {"classification": "3"}):
        with pytest.raises(InvalidRequest, match=r"^output 'y': expected"):
            wanted_of("y", bad)
