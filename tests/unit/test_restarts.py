"""Claims about when a supervised process is started again."""

from inferoxy.restarts import TRANSITIONS, Restarts, State


def waits(restarts: Restarts, ends: int, lived_s: float = 0.0, now: float = 100.0) -> list[float]:
    found = []
    for _ in range(ends):
        restarts.started(now)
        now += lived_s
        found.append(restarts.ended(now))
    return found


def test_the_wait_doubles_from_next_to_nothing_up_to_five_seconds() -> None:
    assert waits(Restarts(), 10) == [0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.0, 5.0]


def test_the_wait_starts_over_after_a_life_of_ten_seconds() -> None:
    restarts = Restarts()
    waits(restarts, 5)
    assert waits(restarts, 2, lived_s=10.0) == [0.02, 0.02]
    assert waits(restarts, 2, lived_s=9.9) == [0.04, 0.08]


def test_a_thousand_ends_do_not_overflow() -> None:
    assert waits(Restarts(), 1000)[-1] == 5.0


def test_restarts_are_counted() -> None:
    restarts = Restarts()
    waits(restarts, 3)
    assert restarts.count == 3


def test_a_process_that_was_never_ready_is_hopeless_after_five_ends() -> None:
    restarts = Restarts()
    waits(restarts, 4)
    assert not restarts.hopeless
    waits(restarts, 1)
    assert restarts.hopeless


def test_a_process_that_was_ready_once_is_never_hopeless() -> None:
    restarts = Restarts()
    restarts.started(0.0)
    restarts.ready()
    waits(restarts, 100)
    assert not restarts.hopeless


def test_every_state_can_come_to_an_end_and_only_a_start_leads_to_ready() -> None:
    assert all(State.ENDED in targets or state is State.ENDED for state, targets in TRANSITIONS.items())
    assert [state for state, targets in TRANSITIONS.items() if State.READY in targets] == [State.STARTING]
