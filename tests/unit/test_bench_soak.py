"""When memory counts as having grown."""

from inferoxy.bench.suite.soak import Sample, growth


def samples(memory: list[float], arena: list[float] | None = None) -> list[Sample]:
    """One sample each ten seconds."""
    arena = arena or [32.0] * len(memory)
    return [Sample(at * 10.0, {"bridge_rest": mib}, arena[at], 4) for at, mib in enumerate(memory)]


def test_what_settles_in_the_first_minute_is_no_growth() -> None:
    assert growth(samples([20, 30, 40, 50, 60, 70, *[70.0] * 30])) == []


def test_unrest_of_the_allocator_is_no_growth() -> None:
    assert growth(samples([70.0 + at % 3 * 0.5 for at in range(40)])) == []


def test_a_steady_leak_is_growth() -> None:
    (found,) = growth(samples([70.0 + at * 0.2 for at in range(60)]))
    assert found.startswith("bridge_rest grew from ")


def test_an_arena_that_grows_late_is_growth() -> None:
    (found,) = growth(samples([70.0] * 40, [32.0] * 30 + [64.0] * 10))
    assert found == "the arena grew from 32 to 64 MiB"


def test_a_short_run_tells_nothing() -> None:
    (found,) = growth(samples([70.0] * 8))
    assert "too few samples" in found
