"""Large memory is used again, and never while anybody can still see it."""

import gc

import numpy as np

from inferoxy.runtime.buffers import MAX_FREE, SMALL_BYTES, Buffers

SIZE = 2 * SMALL_BYTES


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_comes_back_when_the_last_view_is_gone() -> None:
    buffers = Buffers()
    array = buffers.take(SIZE)
    view = memoryview(array.reshape(2, -1)[1].view(np.float32))
    address = _address(array)
    del array
    other = buffers.take(SIZE)
    assert _address(other) != address
    view.release()
    del view
    gc.collect()
    assert _address(buffers.take(SIZE)) == address


def test_two_takers_never_share_memory() -> None:
    buffers = Buffers()
    first, second = buffers.take(SIZE), buffers.take(SIZE)
    assert not np.shares_memory(first, second)


def test_a_much_larger_buffer_is_not_given_for_a_small_array() -> None:
    buffers = Buffers()
    address = _address(buffers.take(8 * SIZE))
    assert _address(buffers.take(SIZE)) != address
    assert len(buffers.take(8 * SIZE)) == 8 * SIZE


def test_only_so_many_buffers_are_kept() -> None:
    buffers = Buffers()
    taken = [buffers.take(SIZE) for _ in range(2 * MAX_FREE)]
    taken.clear()
    assert len(buffers._free) == MAX_FREE
