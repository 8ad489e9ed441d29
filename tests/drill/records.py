"""What the outcomes of a load mean: how many were right, and how long it took to recover from a blow.

Pure.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from tests.drill.flows import LOST, RIGHT, Outcome

Allowed = Callable[[Outcome], bool]
QUIET_SHARE = 0.95  # of the moments before a blow: how many requests are open then is what is usual
WHY_LENGTH = 400  # characters of an example
SHADOW_S = 5.0  # how long behind a blow those that it struck may be told so
SLACK = 2  # open requests above that which are usual, too


class Counts(NamedTuple):
    """How many requests ended in which way; `reasons` are those that were not right, by flow and code."""

    requests: int = 0
    right: int = 0
    refused: int = 0
    lost: int = 0
    wrong: int = 0
    reasons: Mapping[str, int] = MappingProxyType({})

    def plus(self, other: "Counts") -> "Counts":
        """Both together."""
        sums = (ours + theirs for ours, theirs in zip(self[:5], other[:5], strict=True))
        return Counts(*sums, Counter(self.reasons) + Counter(other.reasons))


class Recovery(NamedTuple):
    """How long a blow was felt, in seconds; infinite where that has no end.

    Attributes:
        first_s: From the blow to the first right answer to a request that was sent behind it.
        steady_s: From the blow until no more requests are open than before.
        wait_s: The longest that any request waited which was open in that time.
    """

    first_s: float
    steady_s: float
    wait_s: float


NEVER = float("inf")


def refusals(*codes: str, flows: Collection[str] = ()) -> Allowed:
    """An allowance for these codes, in these flows (empty: in all)."""
    return lambda outcome: outcome.code in codes and (not flows or outcome.flow in flows)


def is_of_sequence(outcome: Outcome) -> bool:
    """Whether it is of one of the flows that run sequences."""
    return outcome.flow.endswith("sequences")


def lost_sequences(blows: Iterable[float]) -> Allowed:
    """An allowance for the two sequence codes: in sequences that lived at a blow, at most SHADOW_S behind it."""
    instants = list(blows)

    def allowed(outcome: Outcome) -> bool:
        is_struck = any(outcome.sent_at - SHADOW_S < at < outcome.ended_at for at in instants)
        return outcome.code in ("SEQUENCE_LOST", "SEQUENCE_UNKNOWN") and is_of_sequence(outcome) and is_struck

    return allowed


def nothing(outcome: Outcome) -> bool:
    """No refusal is allowed."""
    return False


def count(outcomes: Iterable[Outcome], allowed: Allowed = nothing) -> Counts:
    """Sort outcomes. What is neither right, nor lost, nor allowed is wrong."""
    sums: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for outcome in outcomes:
        if outcome.code == RIGHT:
            kind = "right"
        elif outcome.code == LOST:
            kind = "lost"
        else:
            kind = "refused" if allowed(outcome) else "wrong"
        sums[kind] += 1
        if kind != "right":
            reasons[f"{outcome.flow}: {outcome.code}"] += 1
    return Counts(sums.total(), sums["right"], sums["refused"], sums["lost"], sums["wrong"], reasons)


def examples(outcomes: Iterable[Outcome], allowed: Allowed = nothing) -> list[str]:
    """One line for each kind of outcome that should not have been."""
    found: dict[str, str] = {}
    for outcome in outcomes:
        if outcome.code != RIGHT and (outcome.code == LOST or not allowed(outcome)):
            found.setdefault(f"{outcome.flow}: {outcome.code}", outcome.why[:WHY_LENGTH])
    return [f"{what}: {why}" for what, why in found.items()]


def recovery(outcomes: Sequence[Outcome], at: float, since: float) -> Recovery:
    """How long a blow was felt.

    Args:
        outcomes: Of the flows that it struck.
        at: When it fell.
        since: From when to `at` the load was undisturbed.
    """
    right = [outcome.ended_at for outcome in outcomes if outcome.code == RIGHT and outcome.sent_at >= at]
    first = min(right, default=NEVER)
    before = sorted(level for when, level in _levels(outcomes) if since <= when < at)
    usual = (before[int(len(before) * QUIET_SHARE)] if before else 0) + SLACK
    steady = NEVER
    for when, level in _levels(outcomes):
        if when >= first and level <= usual:
            steady = when
            break
    waits = [o.ended_at - o.sent_at for o in outcomes if o.code == RIGHT and o.sent_at <= steady and o.ended_at >= at]
    return Recovery(first - at, steady - at, max(waits, default=NEVER))


def percentile(values: Iterable[float], share: float) -> float:
    """The value that this share of the values does not exceed; 0 where there is none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def latencies(outcomes: Iterable[Outcome]) -> list[float]:
    """Seconds from sending to answer, of the right ones."""
    return [outcome.ended_at - outcome.sent_at for outcome in outcomes if outcome.code == RIGHT]


def _levels(outcomes: Iterable[Outcome]) -> list[tuple[float, int]]:
    """How many requests are open from each instant on."""
    changes = sorted(
        change for outcome in outcomes for change in ((outcome.sent_at, 1), (outcome.ended_at, -1)) if change[0]
    )
    level, found = 0, []
    for when, by in changes:
        level += by
        found.append((when, level))
    return found
