"""What was worked out is kept, and never too much of it."""

from hypothesis import given
from hypothesis import strategies as st

from inferoxy.kept import Kept


def test_keep_gives_the_value_and_keeps_it() -> None:
    kept: Kept[str, int] = Kept(2)
    assert kept.keep("a", 1) == 1
    assert kept.get("a") == 1
    assert kept.get("b") is None


def test_at_the_bound_all_are_dropped_for_the_newcomer() -> None:
    kept: Kept[str, int] = Kept(2)
    for at, key in enumerate("abc"):
        kept.keep(key, at)
    assert kept == {"c": 2}


@given(st.lists(st.tuples(st.integers(0, 9), st.integers())), st.integers(1, 5))
def test_there_are_never_more_than_allowed_and_the_last_is_always_there(
    entries: list[tuple[int, int]], at_most: int
) -> None:
    kept: Kept[int, int] = Kept(at_most)
    for key, value in entries:
        kept.keep(key, value)
        assert len(kept) <= at_most
        assert kept[key] == value
