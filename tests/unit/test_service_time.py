"""What is predicted of a batch's time, given the batches before."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_manager.service_time import ServiceTime

SECONDS = st.floats(1e-4, 10.0)


def learned(*batches: tuple[int, float], times: int = 1) -> ServiceTime:
    service = ServiceTime()
    for items, seconds in batches * times:
        service.saw(items, seconds)
    return service


def test_nothing_is_predicted_before_the_first_batch() -> None:
    assert not ServiceTime().is_known
    assert ServiceTime().predict(8) == 0.0


def test_equal_batches_are_predicted_as_they_were() -> None:
    assert learned((4, 0.05), times=10).predict(4) == pytest.approx(0.05)


def test_a_line_through_batches_of_several_sizes_is_found_and_followed_beyond_them() -> None:
    service = learned(*((n, 0.010 + 0.005 * n) for n in (1, 2, 4, 8)), times=20)
    for items in (1, 3, 8, 16):
        assert service.predict(items) == pytest.approx(0.010 + 0.005 * items, rel=0.02)


def test_a_model_that_became_slower_is_believed_after_a_few_batches() -> None:
    service = learned((1, 0.01), times=50)
    for _ in range(40):
        service.saw(1, 0.03)
    assert service.predict(1) == pytest.approx(0.03, rel=0.25)


def test_times_that_vary_are_predicted_with_a_margin() -> None:
    service = learned((1, 0.01), (1, 0.03), times=30)
    assert 0.03 <= service.predict(1) <= 0.05


@given(st.lists(st.tuples(st.integers(1, 64), SECONDS), min_size=1, max_size=40))
def test_a_prediction_is_never_negative_and_never_falls_with_the_number_of_items(seen: list[tuple[int, float]]) -> None:
    service = learned(*seen)
    found = [service.predict(items) for items in range(1, 65)]
    assert found[0] >= 0.0
    assert all(a <= b + 1e-9 for a, b in pairwise(found))


@given(st.lists(st.tuples(st.integers(1, 64), SECONDS), min_size=1, max_size=20), SECONDS, st.integers(1, 64))
def test_most_items_is_the_largest_number_that_is_predicted_to_fit(
    seen: list[tuple[int, float]], seconds: float, at_most: int
) -> None:
    service = learned(*seen)
    found = service.most_items(seconds, at_most)
    assert found == max([n for n in range(1, at_most + 1) if service.predict(n) <= seconds], default=0)
