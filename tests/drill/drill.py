"""What a drill is given: where it notes what it has found, and how long it may take."""

import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tests.drill.flows import Outcome
from tests.drill.records import Allowed, Counts, Recovery, count, examples, nothing, recovery
from tests.drill.stack import DrillStack

LOGS = Path(tempfile.gettempdir()) / "inferoxy-drill"  # of the last run's stacks
QUICK_SHARE = 0.4  # of a drill's usual duration


class Recovered(NamedTuple):
    """One blow and how long it was felt. `limit_s` is for the first right answer; infinite: only stated."""

    what: str
    recovery: Recovery
    limit_s: float

    @property
    def holds(self) -> bool:
        """Whether it was in time."""
        return self.recovery.first_s <= self.limit_s


class Impossible(Exception):
    """This machine lacks what the drill needs; the message says what."""


@dataclass
class Run:
    """One run of one drill.

    Attributes:
        name: The drill's.
        is_quick: Fewer blows, less time.
        say: Shows what is being done.
        counts: Of all requests so far.
        recoveries: Of all blows so far.
        problems: What does not hold.
        notes: What was measured besides.
    """

    name: str
    is_quick: bool = False
    say: Callable[[str], None] = print
    counts: Counts = field(default_factory=Counts)
    recoveries: list[Recovered] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _stacks: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    @property
    def holds(self) -> bool:
        """Whether nothing was lost or wrong, and everything was as it must be."""
        bad = self.counts.lost + self.counts.wrong
        return not bad and not self.problems and all(recovered.holds for recovered in self.recoveries)

    def stack(self, models: str, **given: Any) -> DrillStack:
        """A stack to be broken, which is started by `with`; its log is kept in LOGS."""
        LOGS.mkdir(exist_ok=True)
        return DrillStack(models, LOGS / f"{self.name}-{next(self._stacks)}.log", **given)

    def few(self, usual: int, quick: int) -> int:
        """How often to do something."""
        return quick if self.is_quick else usual

    def pause(self, seconds: float) -> None:
        """Let the load go on for so long; less in a quick run."""
        time.sleep(seconds * (QUICK_SHARE if self.is_quick else 1.0))

    def note(self, text: str) -> None:
        """State a measurement."""
        self.notes.append(text)

    def check(self, holds: bool, otherwise: str) -> None:
        """Note a problem unless something holds."""
        if not holds:
            self.problems.append(otherwise)

    def take(self, outcomes: Sequence[Outcome], allowed: Allowed = nothing) -> Counts:
        """Count outcomes; what should not have been becomes a problem with an example."""
        found = count(outcomes, allowed)
        self.counts = self.counts.plus(found)
        self.problems += examples(outcomes, allowed)
        return found

    def recovered(
        self, what: str, outcomes: Sequence[Outcome], at: float, since: float, limit_s: float = float("inf")
    ) -> Recovery:
        """Note how long a blow was felt; see records.recovery."""
        found = recovery(outcomes, at, since)
        self.recoveries.append(Recovered(what, found, limit_s))
        return found


Drill = Callable[[Run], None]
