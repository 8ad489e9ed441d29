"""How many instances of one model there should be.

Pure. Where they run is placement.py's, whether one may be launched yet planner.py's.

Wanted are at least instances.min; one as soon as a request waits; one more when the predicted wait (queued requests x
compute_s / ready instances) is over the latency budget (1 s where there is none) and a start helps, because that wait
is longer than a start takes or has been over the budget for as long as a start takes; one less for each that has been
idle for keep_warm_s. Scaling out goes one at a time, but for sequences: as many as those that wait for a place need.
A changed model rolls: one new instance beside the old ones, and an old one leaves for each new one that is ready.
Invariants: never more than instances.max of a model's present form, and at most one above it while older forms leave.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from inferoxy.messages import InstanceState as S
from inferoxy.messages import ModelLoad, ModelSpec
from task_manager.backoff import History
from task_manager.states import ACTIVE, STARTING, Instance

DEFAULT_BUDGET_S = 1.0
DEFAULT_LOAD_S = 2.0  # how long a start takes while none has been seen
_CHANGED = "its model has changed"


@dataclass(slots=True)
class Want:
    """What is known of one registered model version.

    `digest` names its present form. `owed` counts launches that are due without a waiting request: a person asked, or
    an instance crashed. `is_unloaded`: a person wants none until the next request. `pressed_since`: when the predicted
    wait went over the budget. `rolling`: how many instances there were when the form changed; 0 when none are old.
    `killed_unseen` counts instances in a row that a signal ended before they were seen to be ready.
    """

    spec: ModelSpec
    digest: str
    history: History = field(default_factory=History)
    load: ModelLoad | None = None
    owed: int = 0
    is_unloaded: bool = False
    pressed_since: float | None = None
    rolling: int = 0
    killed_unseen: int = 0


class Change(NamedTuple):
    """How many instances to launch, and which to retire and why."""

    launches: int
    retire: list[Instance]
    reason: str = ""


def change(want: Want, group: Sequence[Instance], now: float, *, in_contact: bool) -> Change:
    """What to change about a model's instances.

    Args:
        want: The model.
        group: Its instances that have not ended.
        now: Monotonic seconds.
        in_contact: The batch manager is heard, so that idleness means something.
    """
    current = [i for i in group if i.state in ACTIVE and i.digest == want.digest]
    old = [i for i in group if i.state in ACTIVE and i.digest != want.digest]
    # An old instance that is not ready yet will never be needed; one that is being launched can only be waited for.
    doomed = [i for i in old if i.state is S.LOADING]
    launching = sum(i.state is S.LAUNCHING for i in old)
    serving = [i for i in old if i.state is S.READY]
    if serving:
        return _roll(want, current, serving, doomed, launching, now, in_contact)
    goal = _goal(want, current, len(current), now, in_contact)
    if goal >= len(current):
        room = want.spec.instances.max + bool(launching) - launching - len(current)
        return Change(max(0, min(goal - len(current), room)), doomed, _CHANGED)
    spare = sorted(current, key=_dispensability, reverse=True)[: len(current) - goal]
    return Change(0, doomed + spare, "it was unloaded" if want.is_unloaded else "it is not needed")


def note_pressure(want: Want, ready: int, now: float) -> None:
    """Keep `pressed_since` after new figures have come in."""
    if predicted_wait(want, ready) <= _budget(want):
        want.pressed_since = None
    elif want.pressed_since is None:
        want.pressed_since = now


def predicted_wait(want: Want, ready: int) -> float:
    """Seconds until the last queued request would begin; 0 while nothing is known."""
    if want.load is None or not ready:
        return 0.0
    return want.load.queued * want.load.compute_s / ready


def _roll(
    want: Want,
    current: list[Instance],
    serving: list[Instance],
    doomed: list[Instance],
    launching: int,
    now: float,
    in_contact: bool,
) -> Change:
    """Replace the old instances that serve; `doomed` and `launching` are old ones that never will."""
    count = min(want.rolling or len(serving), len(current) + len(serving))
    goal = _goal(want, current + serving, count, now, in_contact)
    if not goal:
        return Change(0, current + serving + doomed, _CHANGED)
    surplus = max(0, len(serving) + sum(i.state is S.READY for i in current) - goal)
    retire = sorted(serving, key=_dispensability, reverse=True)[:surplus]
    staying = len(serving) - len(retire) + len(current) + launching
    is_one_coming = any(i.state in STARTING for i in current)
    launch = len(current) < goal and staying <= want.spec.instances.max and not is_one_coming
    return Change(int(launch), doomed + retire, _CHANGED)


def _goal(want: Want, active: Sequence[Instance], count: int, now: float, in_contact: bool) -> int:
    """How many instances there should be, given that there are `count`."""
    if want.is_unloaded:
        return 0
    queued = want.load.queued if want.load else 0
    in_flight = want.load.in_flight if want.load else 0
    goal = count
    if in_contact and not queued:
        goal -= sum(_is_idle(i, want.spec) for i in active)
    if queued or in_flight:
        goal = max(goal, 1)
    if _needs_more(want, active, now):
        goal = count + 1
    if want.load and want.load.sequences_waiting:
        wanting = -(-want.load.sequences_waiting // want.spec.max_sequences)
        goal = max(goal, count + wanting - sum(i.state in STARTING for i in active))
    if want.owed:
        goal = max(goal, count + want.owed)
    return min(max(goal, want.spec.instances.min), want.spec.instances.max)


def _needs_more(want: Want, active: Sequence[Instance], now: float) -> bool:
    is_settled = all(i.state is S.READY and i.digest == want.digest for i in active)
    if want.pressed_since is None or not is_settled:
        return False
    load_s = want.history.load_s or DEFAULT_LOAD_S
    wait_s = predicted_wait(want, sum(i.state is S.READY for i in active))
    return wait_s > _budget(want) and (wait_s > load_s or now - want.pressed_since >= load_s)


def _budget(want: Want) -> float:
    return want.spec.latency_budget_ms / 1e3 or DEFAULT_BUDGET_S


def _is_idle(instance: Instance, spec: ModelSpec) -> bool:
    is_free = instance.state is S.READY and not instance.in_flight and not instance.sequences
    return is_free and instance.idle_s >= spec.keep_warm_s


def _dispensability(instance: Instance) -> tuple[bool, bool, float]:
    """Greatest for what can be spared most easily: not started yet, then idle the longest, then busy."""
    return (instance.state is not S.READY, not (instance.in_flight or instance.sequences), instance.idle_s)
