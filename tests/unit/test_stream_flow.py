"""Order and back-pressure of a stream's frames."""

from hypothesis import given
from hypothesis import strategies as st

from bridges.rest.stream_flow import Entry, Flow

MIB = 2**20


def taken(flow: Flow) -> list[str | bytes]:
    found = []
    while (message := flow.take()) is not None:
        found.append(message)
    return found


def test_answers_leave_in_the_order_of_their_frames() -> None:
    flow = Flow(8, MIB, in_order=True)
    first, second = flow.open(1), flow.open(1)
    flow.add(second, ["2"], is_last=True)
    assert taken(flow) == []
    flow.add(first, ["1a"], is_last=False)
    assert taken(flow) == ["1a"]
    flow.add(first, ["1b", b"picture"], is_last=True)
    assert taken(flow) == ["1b", b"picture", "2"]
    assert flow.is_idle


def test_in_any_order_answers_leave_as_they_come() -> None:
    flow = Flow(8, MIB, in_order=False)
    first, second = flow.open(1), flow.open(1)
    flow.add(second, ["2"], is_last=True)
    flow.add(first, ["1"], is_last=True)
    assert taken(flow) == ["2", "1"]


def test_a_mark_waits_for_what_was_before_it_in_any_order_too() -> None:
    flow = Flow(8, MIB, in_order=False)
    first = flow.open(1)
    mark = flow.open(0, is_mark=True)
    third = flow.open(1)
    flow.add(mark, ["end"], is_last=True)
    flow.add(third, ["3"], is_last=True)
    assert taken(flow) == ["3"]
    flow.add(first, ["1"], is_last=True)
    assert taken(flow) == ["1", "end"]
    assert flow.is_idle


def test_there_is_no_room_until_the_last_message_of_a_frame_has_been_taken() -> None:
    flow = Flow(1, MIB, in_order=True)
    frame = flow.open(10)
    assert not flow.has_room
    flow.add(frame, ["1", b"picture"], is_last=True)
    assert not flow.has_room
    assert flow.take() == "1"
    assert not flow.has_room
    assert flow.take() == b"picture"
    assert flow.has_room


def test_large_frames_fill_the_room_before_the_window_does() -> None:
    flow = Flow(8, 100, in_order=True)
    frame = flow.open(99)
    assert flow.has_room
    flow.open(99)
    assert not flow.has_room
    flow.add(frame, ["1"], is_last=True)
    flow.take()
    assert flow.has_room


def test_what_belongs_to_no_frame_leaves_at_once() -> None:
    flow = Flow(1, MIB, in_order=True)
    flow.open(1)
    flow.tell("dropped")
    assert flow.held_bytes == 7
    assert flow.take() == "dropped"
    assert flow.held_bytes == 0


@given(st.booleans(), st.integers(1, 4), st.lists(st.tuples(st.sampled_from("ftam"), st.integers(0, 7)), max_size=60))
def test_everything_leaves_once_and_the_window_holds(
    in_order: bool, window: int, events: list[tuple[str, int]]
) -> None:
    flow = Flow(window, MIB, in_order)
    open_entries: list[tuple[Entry, int, int]] = []  # with number and how many answers it had
    given_out: list[tuple[int, int]] = []
    left: list[tuple[int, int]] = []
    unread = 0  # frames whose last answer has not left
    lasts: set[tuple[int, int]] = set()
    marks: set[int] = set()
    number = 0

    def respond(which: int, is_last: bool) -> None:
        entry, mine, count = open_entries.pop(which % len(open_entries))
        flow.add(entry, [f"{mine}.{count}"], is_last=is_last)
        given_out.append((mine, count))
        if is_last:
            lasts.add((mine, count))
        else:
            open_entries.append((entry, mine, count + 1))

    def take() -> None:
        nonlocal unread
        message = flow.take()
        if message is not None:
            mine, count = map(int, str(message).split("."))
            left.append((mine, count))
            unread -= (mine, count) in lasts and mine not in marks

    for kind, value in events:
        assert flow.has_room == (unread < window)
        if kind == "m" or (kind == "f" and flow.has_room):
            open_entries.append((flow.open(0, is_mark=kind == "m"), number, 0))
            marks |= {number} if kind == "m" else set()
            unread += kind == "f"
            number += 1
        elif kind == "a" and open_entries:
            respond(value, is_last=value % 2 == 0)
        elif kind == "t":
            take()
    while open_entries:
        respond(0, is_last=True)
    while not flow.is_idle:
        take()
    assert flow.held_bytes == 0
    assert sorted(left) == sorted(given_out)
    if in_order:
        assert left == sorted(left)
    for mark in marks:
        behind = left[left.index((mark, 0)) :]
        assert all(mine >= mark for mine, _ in behind)
