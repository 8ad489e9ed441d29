"""Whether a model has had its target rate."""

from batch_manager.pace import Pace


def test_without_a_target_a_model_is_never_over_it() -> None:
    pace = Pace(0.0, 0.0)
    pace.took(10_000, 0.0)
    assert not pace.is_over(0.0)


def test_a_model_is_over_its_target_until_the_next_request_is_due() -> None:
    pace = Pace(10.0, 0.0)
    pace.took(1, 0.0)
    assert pace.is_over(0.0)
    assert not pace.is_over(0.01)
    pace.took(1, 0.05)
    assert pace.is_over(0.09)
    assert not pace.is_over(0.11)


def test_over_a_long_time_the_rate_is_the_target() -> None:
    pace, executed = Pace(25.0, 0.0), 0
    for tick in range(10_000):
        now = tick / 1_000
        if not pace.is_over(now):
            pace.took(1, now)
            executed += 1
    assert abs(executed - 250) <= 3


def test_a_pause_is_made_up_for_by_a_tenth_of_a_second_at_most() -> None:
    pace = Pace(100.0, 0.0)
    taken = 0
    while not pace.is_over(60.0):
        pace.took(1, 60.0)
        taken += 1
    assert taken == 10


def test_a_lower_target_holds_at_once() -> None:
    pace = Pace(1_000.0, 0.0)
    pace.change(1.0)
    pace.took(2, 0.0)
    assert pace.is_over(0.9)
    assert not pace.is_over(1.1)
