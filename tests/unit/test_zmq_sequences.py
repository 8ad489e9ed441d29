"""Which ZeroMQ clients hold sequences."""

from typing import Any

import pytest

from bridges.zmq.sequences import PER_CLIENT, HeldSequences
from inferoxy import messages as m
from inferoxy.errors import SequenceLost

A, B = b"\0a", b"\0b"


class Bridge:
    """Requests of clients, numbered as the link does."""

    def __init__(self) -> None:
        self.held = HeldSequences()
        self.number = 0

    def send(self, client: bytes, id: int | str = 5, **step: Any) -> m.Request:
        self.number += 1
        request = m.Request(id=self.number, model="m", sequence=m.Sequence(id, **step))
        self.held.sent(client, request)
        return request

    def is_known(self, client: bytes, id: int | str = 5, **step: Any) -> bool:
        try:
            self.held.check(client, m.Request(model="m", sequence=m.Sequence(id, **step)))
        except SequenceLost:
            return False
        return True

    def holds(self, client: bytes) -> bool:
        return client in self.held.clients()


@pytest.fixture
def bridge() -> Bridge:
    return Bridge()


def test_a_client_holds_a_sequence_from_its_start_to_the_answer_to_its_end(bridge: Bridge) -> None:
    start = bridge.send(A, start=True)
    assert bridge.held.clients() == [A]
    bridge.held.answered(A, start, "")
    step, end = bridge.send(A), bridge.send(A, end=True)
    bridge.held.answered(A, step, "")
    assert bridge.holds(A)
    bridge.held.answered(A, end, "")
    assert not bridge.holds(A)


def test_a_step_that_goes_on_by_itself_holds_nothing(bridge: Bridge) -> None:
    bridge.held.answered(A, bridge.send(A), "SEQUENCE_LOST")
    assert bridge.held.clients() == []


def test_one_request_may_be_a_whole_sequence(bridge: Bridge) -> None:
    both = bridge.send(A, start=True, end=True)
    assert bridge.holds(A)
    bridge.held.answered(A, both, "")
    assert not bridge.holds(A)


def test_nobody_goes_on_with_what_he_has_not_started(bridge: Bridge) -> None:
    assert not bridge.is_known(A)
    assert bridge.is_known(A, start=True)
    bridge.held.check(A, m.Request(model="m"))
    start = bridge.send(A, start=True)
    assert bridge.is_known(A)
    assert not bridge.is_known(A, "5")
    assert not bridge.is_known(B, end=True)
    bridge.held.answered(A, start, "")
    end = bridge.send(A, end=True)
    assert bridge.is_known(A)
    bridge.held.answered(A, end, "")
    assert not bridge.is_known(A)
    bridge.held.answered(A, m.Request(id=9), "")


def test_a_sequence_that_is_lost_is_held_no_longer(bridge: Bridge) -> None:
    bridge.send(A, start=True)
    bridge.held.answered(A, bridge.send(A), "SEQUENCE_LOST")
    assert not bridge.holds(A)


@pytest.mark.parametrize(
    ("code", "still"),
    [
        ("QUEUE_FULL", False), ("SHED", False), ("MODEL_UNAVAILABLE", False), ("SEQUENCE_LOST", False),
        ("MODEL_ERROR", False), ("INVALID_REQUEST", False), ("UNHEARD_OF", False),
        ("DEADLINE_EXCEEDED", True), ("CANCELLED", True), ("", True),
    ],
)  # fmt: skip
def test_a_start_that_failed_holds_nothing_and_one_that_may_be_run_yet_does(
    bridge: Bridge, code: str, still: bool
) -> None:
    bridge.held.answered(A, bridge.send(A, start=True), code)
    assert bridge.holds(A) is still


@pytest.mark.parametrize(
    ("code", "still"),
    [("QUEUE_FULL", True), ("DEADLINE_EXCEEDED", True), ("MODEL_ERROR", False), ("INVALID_REQUEST", False)],
)
def test_an_end_that_was_never_run_ends_nothing(bridge: Bridge, code: str, still: bool) -> None:
    bridge.send(A, start=True)
    bridge.held.answered(A, bridge.send(A, end=True), code)
    assert bridge.holds(A) is still


def test_an_answer_to_an_earlier_life_does_not_end_a_later_one(bridge: Bridge) -> None:
    bridge.send(A, start=True)
    end = bridge.send(A, end=True)
    bridge.send(A, start=True)
    bridge.held.answered(A, end, "")
    assert bridge.holds(A)
    bridge.held.answered(A, bridge.send(A, end=True), "")
    assert not bridge.holds(A)


def test_clients_and_sequences_are_told_apart(bridge: Bridge) -> None:
    for client, id in ((A, 1), (A, "1"), (B, 1)):
        bridge.send(client, id, start=True)
    bridge.held.answered(A, bridge.send(A, 1, end=True), "")
    assert bridge.held.clients() == [A, B]
    assert bridge.held.forget(B)
    assert not bridge.held.forget(B)
    bridge.held.answered(A, bridge.send(A, "1", end=True), "")
    assert bridge.held.clients() == []


def test_a_client_that_starts_without_end_takes_bounded_room_and_loses_what_was_idle_for_longest(
    bridge: Bridge,
) -> None:
    for id in range(1, 3 * PER_CLIENT):
        bridge.send(A, id, start=True)
        bridge.send(A, 1)
    assert len(bridge.held._held[A]) == PER_CLIENT
    assert bridge.is_known(A, 1)
    assert not bridge.is_known(A, 2)
    for id in [1, *range(2 * PER_CLIENT + 1, 3 * PER_CLIENT)]:
        assert bridge.holds(A)
        assert bridge.is_known(A, id)
        bridge.held.answered(A, bridge.send(A, id, end=True), "")
    assert bridge.held._held == {}
