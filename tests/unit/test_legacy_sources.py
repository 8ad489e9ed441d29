"""Which sequence a request of the first Inferoxy's clients continues."""

from hypothesis import given
from hypothesis import strategies as st

from bridges.legacy import sources as module
from bridges.legacy.sources import Sources, Step
from inferoxy.errors import Code

KEY = ("model", "camera")
LOST, UNKNOWN = Code.SEQUENCE_LOST, Code.SEQUENCE_UNKNOWN


def sent(due: list[Step]) -> list[tuple[str, bool]]:
    return [(step.request, step.starts) for step in due]


def alive(sources: Sources) -> Step:
    """A source whose sequence lives; the step that is under way."""
    step, _ = sources.add(KEY, "first")
    sources.answered(step, "")
    return sources.add(KEY, "second")[0]


def test_a_first_request_asks_to_go_on_and_the_others_wait_for_its_answer() -> None:
    sources = Sources()
    first, due = sources.add(KEY, "a")
    assert sent(due) == [("a", False)]
    assert sources.add(KEY, "b")[1] == []
    assert sources.add(KEY, "c")[1] == []
    is_told, due = sources.answered(first, "")
    assert is_told
    assert sent(due) == [("b", False), ("c", False)]
    assert sent(sources.add(KEY, "d")[1]) == [("d", False)]


def test_a_sequence_begins_where_none_lives() -> None:
    for code in (UNKNOWN, LOST):
        sources = Sources()
        first, _ = sources.add(KEY, "a")
        sources.add(KEY, "b")
        is_told, due = sources.answered(first, code)
        assert not is_told
        assert sent(due) == [("a", True), ("b", False)]


def test_sources_do_not_wait_for_each_other() -> None:
    sources = Sources()
    sources.add(KEY, "a")
    assert sent(sources.add(("model", "other"), "x")[1]) == [("x", False)]
    assert sent(sources.add(("other", "camera"), "y")[1]) == [("y", False)]


def test_requests_that_came_too_late_for_a_sequence_begin_the_next_in_their_order() -> None:
    for code in (UNKNOWN, LOST):
        sources = Sources()
        second = alive(sources)
        third, _ = sources.add(KEY, "third")
        assert sources.answered(second, code) == (False, [])
        assert sources.add(KEY, "fourth")[1] == []
        is_told, due = sources.answered(third, code)
        assert not is_told
        assert sent(due) == [("second", True), ("third", False), ("fourth", False)]


def test_requests_behind_a_beginning_that_failed_begin_again() -> None:
    sources = Sources()
    first, _ = sources.add(KEY, "a")
    _, due = sources.answered(first, UNKNOWN)
    second, _ = sources.add(KEY, "b")
    assert sources.answered(due[0], Code.MODEL_ERROR) == (True, [])
    is_told, due = sources.answered(second, LOST)
    assert not is_told
    assert sent(due) == [("b", True)]


def test_a_request_goes_again_only_once() -> None:
    sources = Sources()
    first, _ = sources.add(KEY, "a")
    sources.answered(first, UNKNOWN)
    assert sources.answered(first, LOST) == (True, [])
    assert sent(sources.add(KEY, "b")[1]) == [("b", True)]


def test_a_failing_step_leaves_the_sequence_alive_and_a_refused_question_leaves_it_open() -> None:
    sources = Sources()
    second = alive(sources)
    sources.answered(second, Code.MODEL_ERROR)
    assert sent(sources.add(KEY, "x")[1] + sources.add(KEY, "y")[1]) == [("x", False), ("y", False)]
    sources = Sources()
    first, _ = sources.add(KEY, "a")
    sources.answered(first, Code.QUEUE_FULL)
    _, due = sources.add(KEY, "b")
    assert sent(due) == [("b", False)]
    assert sources.add(KEY, "c")[1] == [], "it is still not known whether it lives"


def test_dropped_requests_hold_nobody_up() -> None:
    sources = Sources()
    first, _ = sources.add(KEY, "a")
    second, _ = sources.add(KEY, "b")
    third, _ = sources.add(KEY, "c")
    assert sources.drop(second) == []
    due = sources.drop(first)
    assert sent(due) == [("c", False)]
    assert due == [third]
    assert sources.drop(Step(99, ("m", "nobody"), None)) == []


def test_idle_sources_are_forgotten_beyond_the_limit_and_open_ones_are_not(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(module, "MAX_SOURCES", 10)
    sources = Sources()
    busy, _ = sources.add(KEY, "a")
    for number in range(100):
        step, _ = sources.add(("model", str(number)), "x")
        sources.answered(step, "")
    assert len(sources) <= 12
    assert sources.answered(busy, "") == (True, [])


@given(st.lists(st.sampled_from(["add", "", LOST, UNKNOWN, Code.MODEL_ERROR, Code.QUEUE_FULL, "drop"]), max_size=60))
def test_every_request_is_told_once_and_order_holds(events: list[str]) -> None:
    sources = Sources()
    added: list[Step] = []
    under_way: list[Step] = []
    told: list[Step] = []
    dropped: list[Step] = []

    def send(due: list[Step]) -> None:
        for step in due:
            assert all(other < step for other in under_way), "a request overtook another"
            assert not (step.starts and under_way), "a sequence begins while requests of another are under way"
            under_way.append(step)

    def answer(code: str) -> None:
        step = under_way.pop(0)
        is_told, due = sources.answered(step, code)
        told.extend([step] if is_told else [])
        send(due)

    for event in events:
        if event == "add":
            step, due = sources.add(KEY, len(added))
            added.append(step)
            send(due)
        elif event == "drop":
            if under_way:
                dropped.append(under_way.pop())
                send(sources.drop(dropped[-1]))
        elif under_way:
            answer(event)
    while under_way:
        answer("")
    assert sorted(told + dropped) == added
    assert sorted(told) == told
