"""The order in which answers of one stream leave."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bridges.grpc.turns import Turns


def leaving(turns: Turns) -> list[Any]:
    """All that may leave now, left."""
    found = []
    while (departure := turns.take()) is not None:
        turns.left(departure)
        found.append(departure.message)
    return found


def test_answers_without_a_lane_leave_as_they_come() -> None:
    turns = Turns()
    first, second = turns.begin(None, 1), turns.begin(None, 1)
    turns.put(second, "b", 1, is_last=True)
    assert leaving(turns) == ["b"]
    turns.put(first, "a", 1, is_last=True)
    assert leaving(turns) == ["a"]


def test_a_lane_waits_for_its_first_turn_and_not_for_other_lanes() -> None:
    turns = Turns()
    a1, b1, a2 = turns.begin("a", 1), turns.begin("b", 1), turns.begin("a", 1)
    turns.put(a2, "a2", 1, is_last=True)
    turns.put(b1, "b1", 1, is_last=True)
    assert leaving(turns) == ["b1"]
    turns.put(a1, "a1 first", 1, is_last=False)
    assert leaving(turns) == ["a1 first"]
    turns.put(a1, "a1 last", 1, is_last=True)
    assert leaving(turns) == ["a1 last", "a2"]


def test_a_turn_is_open_until_its_last_answer_has_left() -> None:
    turns = Turns()
    turn = turns.begin("a", 100)
    turns.put(turn, "x", 10, is_last=False)
    turns.put(turn, "y", 20, is_last=True)
    assert (turns.open, turns.bytes, turns.waiting, turns.largest) == (1, 130, 2, 20)
    for left in ((1, 120), (0, 0)):
        departure = turns.take()
        assert departure is not None
        turns.left(departure)
        assert (turns.open, turns.bytes) == left
    assert turns.waiting == 0


def test_what_comes_behind_the_last_answer_is_dropped() -> None:
    turns = Turns()
    turn = turns.begin(None, 1)
    turns.put(turn, "a", 1, is_last=True)
    turns.put(turn, "b", 1, is_last=True)
    assert leaving(turns) == ["a"]
    assert (turns.open, turns.bytes, turns.waiting) == (0, 0, 0)


@given(
    lanes=st.lists(st.sampled_from([None, "a", "b"]), max_size=12),
    data=st.data(),
)
def test_lanes_keep_their_order_and_nothing_is_lost_or_left_over(lanes: list[str | None], data: st.DataObject) -> None:
    turns = Turns()
    open_turns = {at: turns.begin(lane, at + 1) for at, lane in enumerate(lanes)}
    left: list[tuple[int, int]] = []
    given_: dict[int, int] = dict.fromkeys(open_turns, 0)
    while open_turns:
        at = data.draw(st.sampled_from(sorted(open_turns)))
        is_last = data.draw(st.booleans()) or given_[at] == 3
        turns.put(open_turns[at], (at, given_[at]), 5, is_last=is_last)
        given_[at] += 1
        if is_last:
            del open_turns[at]
        if data.draw(st.booleans()):
            left += leaving(turns)
    left += leaving(turns)
    assert sorted(left) == [(at, n) for at, count in given_.items() for n in range(count)]
    for lane in ("a", "b"):
        of_lane = [item for item in left if lanes[item[0]] == lane]
        assert of_lane == sorted(of_lane)
    assert (turns.open, turns.bytes, turns.waiting) == (0, 0, 0)
