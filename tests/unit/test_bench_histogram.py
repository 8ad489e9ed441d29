"""Durations in buckets of equal relative width."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferoxy.bench.histogram import HIGHEST_S, LOWEST_S, RELATIVE_ERROR, Histogram, merged

SLACK = 1e-9  # rounding of logarithms at a bucket's edge

durations = st.lists(st.floats(LOWEST_S, HIGHEST_S), min_size=1, max_size=300)
percents = st.floats(0.0, 100.0)


def filled(values: list[float]) -> Histogram:
    histogram = Histogram()
    histogram.add(values)
    return histogram


@given(durations, percents)
def test_a_percentile_is_within_the_stated_error_of_the_sorted_values(values: list[float], percent: float) -> None:
    exact = np.percentile(values, percent, method="inverted_cdf")
    assert filled(values).percentile(percent) == pytest.approx(exact, rel=RELATIVE_ERROR + SLACK)


@given(durations, durations, percents)
def test_merged_histograms_are_one_of_all_values(one: list[float], other: list[float], percent: float) -> None:
    together, whole = merged([filled(one), filled(other)]), filled(one + other)
    assert together.percentile(percent) == whole.percentile(percent)
    assert (together.count, together.least_s, together.most_s) == (whole.count, whole.least_s, whole.most_s)
    assert together.total_s == pytest.approx(whole.total_s)


@given(durations, percents)
def test_nothing_is_lost_on_the_way_through_a_dict(values: list[float], percent: float) -> None:
    before = filled(values)
    after = Histogram.from_dict(before.to_dict())
    assert after.to_dict() == before.to_dict()
    assert after.percentile(percent) == before.percentile(percent)


def test_a_million_latencies_have_the_percentiles_that_numpy_finds() -> None:
    values = np.random.default_rng(7).lognormal(-6.0, 1.5, 1_000_000)
    histogram = Histogram()
    for part in np.split(values, 100):
        histogram.add(part)
    for percent in (1, 50, 90, 99, 99.9, 99.99):
        assert histogram.percentile(percent) == pytest.approx(np.percentile(values, percent), rel=RELATIVE_ERROR * 1.1)
    assert histogram.mean_s == pytest.approx(values.mean())


def test_extremes_are_exact_even_outside_the_buckets() -> None:
    histogram = filled([0.0, 2e-7, 5_000.0])
    assert (histogram.least_s, histogram.most_s) == (0.0, 5_000.0)
    assert histogram.percentile(100) <= 5_000.0
    assert histogram.count == 3


def test_an_empty_histogram_has_zeros() -> None:
    histogram = Histogram()
    histogram.add([])
    assert (histogram.percentile(99), histogram.mean_s, histogram.count) == (0.0, 0.0, 0)
    assert Histogram.from_dict(histogram.to_dict()).percentile(50) == 0.0
