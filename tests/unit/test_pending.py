"""Requests between client and batch manager."""

from collections.abc import Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bridges.pending import Pending, PendingRequests, refresh_timeout
from inferoxy import messages as m


def nothing(response: m.Response, frames: Sequence[Any]) -> None:
    """An answer that nobody looks at."""


def add(table: PendingRequests, *, deadline: float = 10.0, **fields: Any) -> Pending:
    return table.add(m.Request(model="m", **fields), (), nothing, deadline)


def test_ids_are_never_given_twice() -> None:
    table = PendingRequests()
    first = add(table).request.id
    table.take(first)
    assert add(table).request.id != first


def test_what_was_taken_is_gone() -> None:
    table = PendingRequests()
    pending = add(table)
    assert table.take(pending.request.id) is pending
    assert table.take(pending.request.id) is None
    assert table.take_expired(1e9) == []
    assert not pending.is_open


def test_requests_expire_at_their_deadline_in_its_order() -> None:
    table = PendingRequests()
    late, soon, later = add(table, deadline=3.0), add(table, deadline=1.0), add(table, deadline=9.0)
    assert table.take_expired(0.9) == []
    assert table.take_expired(3.0) == [soon, late]
    assert table.take_expired(9.0) == [later]
    assert len(table) == 0


def test_finished_requests_do_not_fill_the_heap_of_deadlines() -> None:
    table = PendingRequests()
    for _ in range(20_000):
        table.take(add(table).request.id)
    assert len(table._deadlines) < 1_000


def test_unsent_requests_are_given_in_order_and_sent_ones_are_not() -> None:
    table = PendingRequests()
    first, second, third = add(table), add(table), add(table)
    second.is_sent = True
    assert table.unsent() == [first, third]
    assert table.sent_stateless() == [second]


def test_sent_steps_of_sequences_are_lost_with_the_batch_manager() -> None:
    table = PendingRequests()
    stateless, step = add(table), add(table, sequence=m.Sequence(1))
    stateless.is_sent = step.is_sent = True
    assert table.take_lost() == [step]
    assert table.sent_stateless() == [stateless]


def test_sequence_whose_start_was_not_sent_yet_loses_nothing() -> None:
    table = PendingRequests()
    gone = add(table, sequence=m.Sequence("a"))
    start = add(table, sequence=m.Sequence("b", start=True))
    step = add(table, sequence=m.Sequence("b"))
    assert table.take_lost() == [gone]
    assert table.unsent() == [start, step]


def test_sequences_of_different_models_are_told_apart() -> None:
    table = PendingRequests()
    add(table, sequence=m.Sequence(1, start=True))
    other = table.add(m.Request(model="other", sequence=m.Sequence(1)), (), nothing, 5.0)
    assert table.take_lost() == [other]


def test_sequences_of_different_clients_are_told_apart() -> None:
    table = PendingRequests()
    start = add(table, sequence=m.Sequence(1, start=True, client="a"))
    other = add(table, sequence=m.Sequence(1, client="b"))
    step = add(table, sequence=m.Sequence(1, end=True, client="a"))
    assert table.take_lost() == [other]
    assert table.unsent() == [start, step]


def test_a_request_that_is_sent_later_states_the_time_that_is_left() -> None:
    table = PendingRequests()
    pending = add(table, deadline=10.0, timeout_us=8_000_000)
    refresh_timeout(pending, 9.5)
    assert pending.request.timeout_us == 500_000
    refresh_timeout(pending, 11.0)
    assert pending.request.timeout_us == 1


class Table(RuleBasedStateMachine):
    """Whatever happens in whatever order, each request leaves the table once."""

    def __init__(self) -> None:
        super().__init__()
        self.table = PendingRequests()
        self.now = 0.0
        self.open: dict[int, float] = {}

    def left(self, pendings: Sequence[Pending]) -> None:
        for pending in pendings:
            del self.open[pending.request.id]

    @rule(timeout=st.floats(0.0, 5.0), sequence=st.sampled_from([None, 1, 2]), start=st.booleans(), sent=st.booleans())
    def add(self, timeout: float, sequence: int | None, start: bool, sent: bool) -> None:
        step = None if sequence is None else m.Sequence(sequence, start)
        pending = add(self.table, deadline=self.now + timeout, sequence=step)
        pending.is_sent = sent
        self.open[pending.request.id] = self.now + timeout

    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        request_id = data.draw(st.integers(1, 60))
        taken = self.table.take(request_id)
        assert (taken is not None) == (request_id in self.open)
        self.left([taken] if taken else [])

    @rule(elapsed=st.floats(0.0, 3.0))
    def wait(self, elapsed: float) -> None:
        self.now += elapsed
        self.left(self.table.take_expired(self.now))
        assert all(deadline > self.now for deadline in self.open.values())

    @rule()
    def restart(self) -> None:
        self.left(self.table.take_lost())

    @rule()
    def end(self) -> None:
        self.left(self.table.take_all())
        assert not self.open

    @invariant()
    def holds_what_is_open(self) -> None:
        assert len(self.table) == len(self.open)
        assert all(self.table.find(request_id) is not None for request_id in self.open)


Table.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestTable = Table.TestCase
