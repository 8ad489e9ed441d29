"""When the next request of a stream is expected."""

import random

import pytest

from batch_manager.rhythm import LONE_S, LONGEST_S, Rhythm


def heard(*instants: float, budget_s: float = 0.08, service_s: float = 0.008) -> Rhythm:
    rhythm = Rhythm()
    for at in instants:
        rhythm.arrived(at, budget_s, service_s)
    return rhythm


def test_nothing_is_expected_before_the_first_request() -> None:
    assert Rhythm().expected_at(5.0) is None


def test_a_single_request_may_be_followed_by_another_at_any_moment_within_the_budget() -> None:
    rhythm = heard(1.0)
    assert rhythm.expected_at(1.01) == 1.01
    assert rhythm.expected_at(1.081) is None


def test_without_a_budget_a_single_request_is_minded_for_a_moment_only() -> None:
    assert heard(1.0, budget_s=0.0).expected_at(1.0 + LONE_S + 0.001) is None


def test_a_regular_stream_is_expected_at_its_next_beat_and_over_when_that_is_late() -> None:
    rhythm = heard(*(n * 0.1 for n in range(6)))
    assert rhythm.expected_at(0.52) == pytest.approx(0.6)
    assert rhythm.expected_at(0.63) == 0.63
    assert rhythm.ends_at() == pytest.approx(0.68)  # late by its budget
    assert rhythm.expected_at(0.69) is None


def test_a_quick_stream_is_over_when_two_beats_are_missing() -> None:
    assert heard(*(n * 0.01 for n in range(20))).ends_at() == pytest.approx(0.19 + 0.025)


def test_jitter_moves_the_expectation_forward() -> None:
    noise = random.Random(3)
    at = [n * 0.1 + noise.uniform(-0.01, 0.01) for n in range(30)]
    expected = heard(*at).expected_at(at[-1] + 0.01)
    assert expected is not None
    assert at[-1] + 0.07 <= expected <= at[-1] + 0.1


def test_requests_that_come_together_are_one_beat() -> None:
    rhythm = heard(*(n * 0.1 + camera * 0.0005 for n in range(6) for camera in range(4)))
    assert rhythm.expected_at(0.51) == pytest.approx(0.6, abs=0.002)


def test_a_stream_that_quickens_or_slows_down_is_followed() -> None:
    rhythm = heard(0.0, 1.0, *(1.02 + n * 0.02 for n in range(8)))
    assert rhythm.expected_at(1.17) == pytest.approx(1.18, abs=0.011)
    slow = heard(*(n * 0.02 for n in range(10)), *(1.0 + n * 0.2 for n in range(4)))
    assert slow.expected_at(1.61) == pytest.approx(1.8)


def test_a_pause_ends_a_stream_and_the_next_request_begins_anew() -> None:
    rhythm = heard(0.0, 0.1, 0.2, 0.2 + LONGEST_S + 1.0)
    assert rhythm.expected_at(0.2 + LONGEST_S + 1.05) == 0.2 + LONGEST_S + 1.05
    assert rhythm.expected_at(0.2 + LONGEST_S + 1.2) is None
