"""What failures delay, and for how long."""

from hypothesis import given
from hypothesis import strategies as st

from task_manager.backoff import CRASH_LOOP, CRASH_LOOP_S, FIRST_S, GOOD_RUN_S, LONGEST_S, History

ROUNDING_S = 1e-9


def delays(history: History, failures: int) -> list[float]:
    """Seconds from each of some failures to load to the next launch, each launched as soon as it may be."""
    now, found = max(1000.0, history.retry_at, history.failed_at), []
    for _ in range(failures):
        history.load_failed("broken", launched_at=now, now=now + 0.1)
        found.append(round(history.retry_at - (now + 0.1), 6))
        now = history.retry_at
    return found


def test_failures_to_load_double_the_delay_up_to_a_minute() -> None:
    assert delays(History(), 10) == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_the_first_crash_delays_nothing_and_the_next_ones_little_until_they_are_a_loop() -> None:
    history, now, found = History(), 0.0, []
    for _ in range(CRASH_LOOP + 5):
        history.crashed("died", launched_at=now, ran_s=1.0, now=now + 1.0)
        found.append(round(history.retry_at - (now + 1.0), 6))
        assert not history.refuses(now + 1.0)
        now = history.retry_at
    assert found[:6] == [0.0, 0.1, 0.2, 0.4, 0.4, 0.4]
    assert set(found[CRASH_LOOP - 1 :]) == {CRASH_LOOP_S}


def test_a_good_run_before_a_crash_starts_the_row_anew() -> None:
    history = History()
    delays(history, 5)
    history.loaded(1.0)
    launched = history.failed_at + 100.0
    history.crashed("died", launched_at=launched, ran_s=GOOD_RUN_S, now=launched + GOOD_RUN_S)
    assert (history.failures, history.crashes) == (0, 1)
    assert not history.waits(launched + GOOD_RUN_S)


def test_a_good_run_that_was_ended_in_order_starts_the_row_anew() -> None:
    history = History()
    delays(history, 5)
    history.ended(GOOD_RUN_S)
    assert delays(history, 1) == [FIRST_S]


def test_a_short_run_keeps_the_row() -> None:
    history = History()
    delays(history, 3)
    history.loaded(1.0)
    history.ended(GOOD_RUN_S - 1.0)
    assert history.failures == 3


def test_instances_that_die_together_are_one_failure() -> None:
    history = History()
    for _ in range(4):
        history.crashed("killed", launched_at=0.0, ran_s=5.0, now=10.0)
    assert (history.crashes, history.waits(10.0)) == (1, False)


def test_the_newest_error_is_kept_even_when_it_counts_for_nothing() -> None:
    history = History()
    history.load_failed("first", launched_at=0.0, now=1.0)
    history.load_failed("second", launched_at=0.5, now=1.1)
    assert (history.error, history.failures) == ("second", 1)


def test_a_load_failure_refuses_requests_for_as_long_as_it_delays() -> None:
    history = History()
    history.load_failed("broken", launched_at=0.0, now=0.0)
    assert history.refuses(0.49)
    assert not history.refuses(0.5)


def test_a_load_after_failures_is_forgiven_but_not_forgotten() -> None:
    history = History()
    delays(history, 3)
    history.loaded(2.5)
    assert (history.error, history.load_s, history.waits(history.failed_at)) == ("", 2.5, False)
    assert delays(history, 1) == [4.0]


@given(st.lists(st.tuples(st.sampled_from(["load", "crash", "ready", "good"]), st.floats(0, 100)), max_size=60))
def test_a_delay_is_never_longer_than_the_longest(events: list[tuple[str, float]]) -> None:
    history, now = History(), 0.0
    for kind, passed in events:
        now += passed
        match kind:
            case "load":
                history.load_failed("x", now, now)
            case "crash":
                history.crashed("x", now, passed, now)
            case "ready":
                history.loaded(passed)
            case _:
                history.ended(passed)
        assert history.retry_at - now <= LONGEST_S + ROUNDING_S
        assert not history.waits(now + LONGEST_S + ROUNDING_S)
