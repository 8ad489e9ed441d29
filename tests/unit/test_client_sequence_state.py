"""What a client knows of one of its sequences."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferoxy import messages as m
from inferoxy.client.arguments import sequence_id_of
from inferoxy.client.calls import ConnectionFailed
from inferoxy.client.sequence_state import SequenceState
from inferoxy.errors import (
    DeadlineExceeded,
    InferoxyError,
    InvalidRequest,
    ModelError,
    ModelNotFound,
    SequenceLost,
    error_from,
)

LOST = SequenceLost("gone")


@pytest.fixture
def state() -> SequenceState:
    return SequenceState(5)


def begun(state: SequenceState) -> SequenceState:
    state.answered(state.next_step())
    return state


def test_the_first_request_starts_and_those_behind_it_go_on_before_it_is_answered(state: SequenceState) -> None:
    first, second = state.next_step(), state.next_step()
    assert (first, second) == (m.Sequence(5, True), m.Sequence(5))
    state.answered(first)
    state.answered(second)
    assert state.next_step() == m.Sequence(5)


@pytest.mark.parametrize(
    "error", [ModelError("no"), InvalidRequest("no"), DeadlineExceeded("no"), ConnectionFailed("no")]
)
def test_other_failures_leave_it_alive(state: SequenceState, error: InferoxyError) -> None:
    begun(state).answered(state.next_step(), error)
    assert (state.next_step().start, state.may_live) == (False, True)


def test_what_is_lost_begins_anew(state: SequenceState) -> None:
    begun(state).answered(state.next_step(), LOST)
    assert not state.may_live
    assert state.next_step().start


@pytest.mark.parametrize(
    ("error", "may_live"),
    [
        (ModelError("no"), False), (ModelNotFound("no"), False), (error_from("QUEUE_FULL", "no"), False), (LOST, False),
        (DeadlineExceeded("no"), True), (ConnectionFailed("no"), True),
    ],
)  # fmt: skip
def test_a_start_that_failed_is_made_again_and_ended_only_if_it_may_have_been_heard(
    state: SequenceState, error: InferoxyError, may_live: bool
) -> None:
    step = state.next_step()
    with pytest.raises(InferoxyError), state.noting(step):
        raise error
    assert state.may_live is may_live
    assert state.next_step().start


def test_a_start_that_nobody_waits_for_is_made_again_and_may_live(state: SequenceState) -> None:
    with pytest.raises(KeyboardInterrupt), state.noting(state.next_step()):
        raise KeyboardInterrupt
    assert state.may_live
    assert state.next_step().start


def test_a_step_that_is_abandoned_changes_nothing(state: SequenceState) -> None:
    begun(state).abandoned(state.next_step())
    assert (state.next_step().start, state.may_live) == (False, True)


def test_the_last_step_ends_it(state: SequenceState) -> None:
    assert begun(state).last_step() == m.Sequence(5, end=True)
    assert not state.may_live
    assert state.next_step().start


outcomes = st.sampled_from([None, LOST, ModelError("no"), DeadlineExceeded("no"), "abandoned"])


@given(st.lists(st.tuples(st.integers(0, 4), outcomes), max_size=40))
def test_at_most_one_start_is_under_way_and_nothing_goes_on_without_one(
    events: list[tuple[int, InferoxyError | str | None]],
) -> None:
    state = SequenceState(1)
    under_way: list[m.Sequence] = []
    for more, outcome in events:
        under_way += [state.next_step() for _ in range(more)]
        assert sum(step.start for step in under_way) <= 1
        if not under_way:
            continue
        step = under_way.pop(0)
        if outcome == "abandoned" or isinstance(outcome, str):
            state.abandoned(step)
        else:
            state.answered(step, outcome)
            if step.start and outcome is not None:  # what was sent behind it is taken back
                for one in under_way:
                    state.abandoned(one)
                under_way.clear()
        if step.start and outcome is None:
            assert state.may_live


@pytest.mark.parametrize(("given_id", "id"), [(7, 7), ("7", 7), ("cam", "cam"), ("07", "07"), (2**64 - 1, 2**64 - 1)])
def test_an_id_means_the_same_over_every_protocol(given_id: int | str, id: int | str) -> None:
    assert sequence_id_of(given_id) == id


def test_ids_are_random_unless_given() -> None:
    found = [sequence_id_of(None) for _ in range(100)]
    assert len(set(found)) == 100
    assert all(isinstance(id, int) and 0 < id < 2**63 for id in found)


@pytest.mark.parametrize("wrong", [0, -1, 2**64, "", "x" * 257, True, 1.5, b"7"])
def test_an_id_out_of_range_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidRequest, match=r"sequence_id: expected 1\.\.18446744073709551615 or text of 1\.\.256"):
        sequence_id_of(wrong)  # type: ignore[arg-type]
