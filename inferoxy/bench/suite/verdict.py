"""Whether what must hold does: medians over rounds, with their spread. Pure.

Ratios are taken within a round, where both sides were measured seconds apart, and only then compared. Where more rounds
were measured than wanted, because some were disturbed, the quietest count.
"""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from inferoxy.bench.suite.readings import Reading
from inferoxy.bench.suite.workloads import IDEAL_SLEEPER, Check, Workload

NOISE = 0.05  # share of all processors used by others, from which on a reading is disturbed

Rounds = Sequence[Mapping[str, Reading]]  # each round's readings by probe


class Judged(NamedTuple):
    """A check's value. `value` is None when it could not be measured."""

    check: Check
    value: float | None
    low: float = 0.0
    high: float = 0.0
    is_noisy: bool = False

    @property
    def holds(self) -> bool:
        """Whether the median is within the bound."""
        value, check = self.value, self.check
        if value is None:
            return False
        return (check.least is None or value >= check.least) and (check.most is None or value <= check.most)

    @property
    def short(self) -> str:
        """For the last line."""
        return self.check.short.format(self.value) if self.value is not None else "not measured"


def judge(workload: Workload, rounds: Rounds, wanted: int) -> list[Judged]:
    """Every check of a workload, by its `wanted` quietest rounds."""
    return [_judge(check, rounds, wanted) for check in workload.checks]


def is_noisy(reading: Reading) -> bool:
    """Whether others disturbed it."""
    return reading.others + reading.stolen > NOISE


def needs_another(workload: Workload, rounds: Rounds, wanted: int) -> bool:
    """Whether some check has fewer than `wanted` undisturbed rounds."""
    return any(
        sum(not any(map(is_noisy, _involved(check, one))) for one in rounds) < wanted for check in workload.checks
    )


def last_line(judged: Mapping[str, Sequence[Judged]]) -> str:
    """`bench: W1 … W2 …: N of M hold`."""
    parts = [f"{name} {', '.join(one.short for one in found)}" for name, found in judged.items()]
    every = [one for found in judged.values() for one in found]
    return f"bench: {'; '.join(parts)}: {sum(one.holds for one in every)} of {len(every)} hold"


def _judge(check: Check, rounds: Rounds, wanted: int) -> Judged:
    usable = [one for one in rounds if all(key in one for key in (check.ours, *check.ceilings))]
    if not usable:
        return Judged(check, None)
    quietest = sorted(usable, key=lambda one: max(r.others + r.stolen for r in _involved(check, one)))[:wanted]
    values = [_value(check, one) for one in quietest]
    noisy = any(is_noisy(reading) for one in quietest for reading in _involved(check, one))
    return Judged(check, median(values), min(values), max(values), noisy)


def _value(check: Check, one: Mapping[str, Reading]) -> float:
    ours, ceilings = one[check.ours], [one[key] for key in check.ceilings]
    if check.figure == "rate_ratio":
        return ours.requests_per_s / max(max(c.requests_per_s for c in ceilings), 1e-9)
    if check.figure == "p50_ratio":
        return ours.p50_ms / max(min(c.p50_ms for c in ceilings), 1e-9)
    if check.figure == "p50_added_ms":
        return ours.p50_ms - min(c.p50_ms for c in ceilings)
    if check.figure == "of_ideal":
        return ours.requests_per_s / IDEAL_SLEEPER
    return ours.p50_ms


def _involved(check: Check, one: Mapping[str, Reading]) -> list[Reading]:
    return [one[key] for key in (check.ours, *check.ceilings) if key in one]
