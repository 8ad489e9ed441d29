"""Which requests too much load costs: refused at a full queue, displaced there, or shed as hopeless.

Pure: these functions decide, serving.py answers.
Invariant: every drop says which limit was hit.
"""

from collections.abc import Iterator
from typing import NamedTuple

from batch_manager.model_state import ModelState
from batch_manager.queues import Pending
from inferoxy.errors import Code


class Drop(NamedTuple):
    """A request that is not run, what it is told, and what it is counted under."""

    pending: Pending
    code: Code
    why: str
    reason: str


def at_full_queue(model: ModelState, newcomer: Pending) -> Drop | None:
    """Who has to go so that the bounds of the model's queue hold: nobody, the newcomer, or another in its favour."""
    spec = model.spec
    by_count = model.waiting >= spec.queue_size
    by_bytes = model.waiting > 0 and model.waiting_bytes + newcomer.header.size > spec.queue_mib << 20
    if not by_count and not by_bytes:
        return None
    reason = "queue_size" if by_count else "queue_mib"
    limit = f"{reason} {spec.queue_size if by_count else spec.queue_mib}"
    victim = _victim(model, newcomer)
    if victim is None:
        return Drop(newcomer, Code.QUEUE_FULL, f"model {spec.name!r}: its queue is full ({limit})", reason)
    for_whom = "a request of higher priority" if victim.priority < newcomer.priority else "a newer request"
    return Drop(victim, Code.SHED, f"model {spec.name!r}: dropped for {for_whom} ({limit})", reason)


def hopeless(model: ModelState, now: float) -> Iterator[Drop]:
    """The waiting requests that can no longer make the model's latency budget, so that others still can.

    Each must be taken out of the queue before the next one is asked for.
    """
    spec = model.spec
    if not spec.stateless or not spec.latency_budget_ms or not model.dispatcher.all:
        return
    while (oldest := model.queue.oldest()) is not None and model.latest_start(oldest) <= now:
        waited_ms = (now - oldest.arrived_at) * 1e3
        why = (
            f"model {spec.name!r}: shed after {waited_ms:.0f} ms in the queue, too late for its "
            f"latency_budget_ms {spec.latency_budget_ms:g}"
        )
        yield Drop(oldest, Code.SHED, why, "latency_budget_ms")


def _victim(model: ModelState, newcomer: Pending) -> Pending | None:
    """The waiting request that has to go for a newcomer; None: the newcomer itself. Sequences are never thinned out."""
    spec, queue = model.spec, model.queue
    if not spec.stateless:
        return None
    if newcomer.priority > spec.priority:
        worst = queue.worst()
        if worst is not None and worst.priority < newcomer.priority:
            return worst
    if spec.drop_policy == "reject":
        return None
    return queue.oldest() if spec.drop_policy == "drop_oldest" else queue.newest()
