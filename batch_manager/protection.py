"""Whether lower work may start although a protected model shares its device.

Pure: callers pass `now`. A model with a latency budget is protected so that its next request still makes that budget;
one with `protect: strict` so that its next request need not wait at all. What is not known cannot be protected: until
a model's first batch has been timed it counts as taking no time.
Invariant: only models of lower priority are held back, and only while the protected one has a stream of requests.
"""

from typing import TYPE_CHECKING

from batch_manager.queues import Pending

if TYPE_CHECKING:
    from batch_manager.devices import Claim, Device
    from batch_manager.model_state import ModelState

SHARE = 0.75  # of a budget that may be planned away; the rest is for what takes longer than predicted
DEFAULT_BUDGET_S = 1.0  # of a model without one, when others ask to go first

_NOW = float("-inf")


def most_items(device: "Device", claim: "Claim", now: float) -> int:
    """How many items the claim's batch may hold so that no protected model suffers; 0: it may not start.

    Sets the device's `recheck_at` to when that may change by itself.
    """
    items = claim.items()
    if not device.guards:
        return items
    head = claim.head()
    priority = head.priority if head else 0
    limit = float("inf")
    for guard in device.guards:
        if guard is claim.model or guard.spec.priority <= priority or guard.pace.is_over(now):
            continue
        free_by = _slot_needed_by(guard, device, now)
        if free_by is None or _has_slot_left(device, claim, guard, free_by):
            continue
        limit = min(limit, free_by)
        if guard.rhythm.ends_at() > now:
            device.recheck_at = min(device.recheck_at, guard.rhythm.ends_at())
    if limit == float("inf"):
        return items
    return claim.model.service.most_items(limit - now, items) if limit >= now else 0


def can_wait(above: "list[Claim] | None", claim: "Claim", items: int, now: float) -> bool:
    """Whether the claims of higher priority, one after the other, stay within their budgets if this one goes first."""
    if above is None:
        return False
    at = now + claim.model.service.predict(items)
    for other in above:
        model, head = other.model, other.head()
        if head is None:
            continue
        budget_s = model.budget_s or DEFAULT_BUDGET_S
        own_s = model.service.predict(other.items())
        if model.spec.protect == "strict" or at + own_s > head.arrived_at + SHARE * budget_s:
            return False
        at += own_s
    return True


def long_wait_at(model: "ModelState", head: Pending) -> float:
    """From when on a request has waited for long while nothing of its model was started.

    A model of which there is simply too much always has requests that have waited; it does not starve.
    """
    return max(head.arrived_at, model.started_at) + (model.budget_s or DEFAULT_BUDGET_S) / 2


def _slot_needed_by(guard: "ModelState", device: "Device", now: float) -> float | None:
    """The instant at which a slot must be free for the guard's next request; None when it will need none."""
    waiting = guard.head()
    is_strict = guard.spec.protect == "strict"
    if waiting is not None:
        if not guard.dispatcher.is_idle_on(device):
            return None  # it waits for its own instance, which has a slot
        return _NOW if is_strict else _latest_start(guard, waiting.arrived_at)
    expected_at = guard.rhythm.expected_at(now)
    if expected_at is None or is_strict:
        return expected_at
    return _latest_start(guard, expected_at)


def _latest_start(guard: "ModelState", arrived_at: float) -> float:
    return arrived_at + SHARE * guard.budget_s - guard.service.predict(1)


def _has_slot_left(device: "Device", claim: "Claim", guard: "ModelState", free_by: float) -> bool:
    """Whether the guard finds a slot in time even while the claim's batch runs."""
    needed = device.used + claim.model.spec.slots + guard.spec.slots - device.limit
    if needed <= 0:
        return True
    for instance, slots in device.running.items():
        if slots and instance.expected_end() <= free_by:
            needed -= slots
            if needed <= 0:
                return True
    return False
