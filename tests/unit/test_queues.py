"""The order and the grouping of waiting requests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_manager.queues import Pending, RequestQueue, State
from inferoxy.messages import Request


def pending(request_id: int, *, priority: int = 0, deadline: float = 100.0, key: str = "", rows: int = 1) -> Pending:
    return Pending(b"peer", Request(id=request_id, priority=priority, key=key, rows=rows, size=10), (), 0.0, deadline)


def ids(batch: list[Pending]) -> list[int]:
    return [p.header.id for p in batch]


def test_higher_priority_then_earlier_deadline_then_arrival() -> None:
    queue = RequestQueue(limit=10)
    for item in (
        pending(1, deadline=50.0),
        pending(2, deadline=40.0),
        pending(3, priority=5, deadline=90.0),
        pending(4, deadline=40.0),
    ):
        queue.push(item)
    assert ids(queue.take()) == [3, 2, 4, 1]


def test_stacked_requests_share_a_batch_only_with_equal_keys() -> None:
    queue = RequestQueue(limit=10, stacked=True)
    for number, key in enumerate(["a", "b", "a", "b", "b"]):
        queue.push(pending(number, key=key))
    assert ids(queue.take()) == [0, 2]
    assert ids(queue.take()) == [1, 3, 4]


def test_rows_count_as_items_of_a_stacked_batch() -> None:
    queue = RequestQueue(limit=4, stacked=True)
    for number, rows in enumerate([2, 1, 3, 1]):
        queue.push(pending(number, rows=rows))
    assert ids(queue.take()) == [0, 1]
    assert ids(queue.take()) == [2, 3]


def test_a_request_that_outlived_an_instance_is_taken_alone() -> None:
    queue = RequestQueue(limit=10)
    survivor = pending(1)
    survivor.deaths = 1
    for item in (survivor, pending(2), pending(3)):
        queue.push(item)
    assert ids(queue.take()) == [1]
    assert ids(queue.take()) == [2, 3]


def test_a_full_group_is_found_behind_a_partial_one() -> None:
    queue = RequestQueue(limit=2, stacked=True)
    for number, key in enumerate(["a", "b", "b"]):
        queue.push(pending(number, key=key))
    assert not queue.is_head_full()
    assert ids(queue.take(full_only=True)) == [1, 2]
    assert queue.take(full_only=True) == []


def test_misfits_are_those_whose_rows_no_batch_can_hold() -> None:
    queue = RequestQueue(limit=8)
    for number, rows in enumerate([1, 9, 0]):
        queue.push(pending(number, rows=rows))
    assert queue.misfits() == []
    queue.reshape(8, stacked=True)
    assert ids(queue.misfits()) == [1, 2]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["push", "push", "take", "full", "discard"]),
            st.integers(0, 3),
            st.integers(0, 5),
            st.sampled_from(["a", "b", "c"]),
            st.integers(1, 3),
        ),
        max_size=80,
    ),
    st.booleans(),
    st.integers(1, 5),
)
def test_queue_agrees_with_a_plain_sorted_list(
    steps: list[tuple[str, int, int, str, int]], stacked: bool, limit: int
) -> None:
    queue, model = RequestQueue(limit, stacked=stacked), []

    def weight(item: Pending) -> int:
        return item.header.rows if stacked else 1

    def group(item: Pending) -> str:
        return item.header.key if stacked else ""

    def first_batch(items: list[Pending]) -> list[Pending]:
        batch, total = [], 0
        for item in items:
            if batch and total + weight(item) > limit:
                break
            batch.append(item)
            total += weight(item)
            if total >= limit:
                break
        return batch

    for number, (what, priority, deadline, key, rows) in enumerate(steps):
        model.sort(key=lambda p: (-p.header.priority, p.deadline, p.arrival))
        if what == "push":
            item = pending(number, priority=priority, deadline=float(deadline), key=key, rows=min(rows, limit))
            queue.push(item)
            model.append(item)
        elif what == "discard" and model:
            item = model.pop(priority % len(model))
            queue.discard(item)
            assert item.state is State.DONE
        elif what in ("take", "full"):
            sums: dict[str, int] = {}
            for item in model:
                sums[group(item)] = sums.get(group(item), 0) + weight(item)
            wanted = [p for p in model if what == "take" or sums[group(p)] >= limit]
            expected = first_batch([p for p in model if wanted and group(p) == group(wanted[0])])
            assert queue.take(full_only=what == "full") == expected
            model = [p for p in model if p not in expected]
        assert len(queue) == len(model)
        assert queue.bytes == 10 * len(model)
        oldest = queue.oldest()
        assert (oldest.arrival if oldest else None) == min((p.arrival for p in model), default=None)


@pytest.mark.parametrize("stacked", [False, True])
def test_stale_entries_do_not_pile_up(stacked: bool) -> None:
    queue = RequestQueue(limit=4, stacked=stacked)
    stays = pending(0, deadline=0.0, key="stays")
    queue.push(stays)
    for number in range(5000):
        item = pending(number, key=f"k{number % 7}")
        queue.push(item)
        queue.discard(item)
    assert len(queue) == 1
    held = sum(len(g.heap) for g in queue._groups.values()) + len(queue._heads) + len(queue._arrived)
    assert held < 400
