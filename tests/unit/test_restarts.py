"""Claims about when a supervised process is started again."""

from inferoxy.restarts import TRANSITIONS, Restarts, State


def waits(restarts: Restarts, ends: int, lived_s: float = 0.0, now: float = 100.0) -> list[float]:
    found = []
    for _ in range(ends):
        restarts.started(now)
        now += lived_s
        found.append(restarts.ended(now))
    return found


def test_the_wait_doubles_from_a_tenth_of_a_second_up_to_five() -> None:
    assert waits(Restarts(), 8) == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_the_wait_starts_over_after_a_life_of_thirty_seconds() -> None:
    restarts = Restarts()
    waits(restarts, 5)
    assert waits(restarts, 2, lived_s=30.0) == [0.1, 0.1]
    assert waits(restarts, 2, lived_s=29.9) == [0.2, 0.4]


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
