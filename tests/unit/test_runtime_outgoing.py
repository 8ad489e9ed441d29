"""Answers of a stateful model leave in the order of their batches."""

from hypothesis import given
from hypothesis import strategies as st

from inferoxy.runtime.outgoing import InOrder


def test_a_batch_that_is_done_early_waits_for_those_before_it() -> None:
    sent: list[list[int]] = []
    order = InOrder(sent.append)
    first, second = order.open(), order.open()
    second([2], True)
    assert sent == []
    first([0], False)
    assert sent == [[0]]
    first([1], True)
    assert sent == [[0], [1], [2]]


@given(st.lists(st.integers(1, 3), min_size=1, max_size=6), st.randoms())
def test_whatever_the_order_of_work_messages_leave_in_order(sizes: list[int], random: object) -> None:
    sent: list[list[tuple[int, int]]] = []
    order = InOrder(sent.append)
    ways = [order.open() for _ in sizes]
    left = [list(range(size)) for size in sizes]
    while any(left):
        batch = random.choice([index for index, rest in enumerate(left) if rest])  # type: ignore[attr-defined]
        message = left[batch].pop(0)
        ways[batch]([(batch, message)], not left[batch])
    assert sent == [[(batch, message)] for batch, size in enumerate(sizes) for message in range(size)]
