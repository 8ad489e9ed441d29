"""The policies that are compared: one dispatcher, told different things about the models.

Pure.
"""

from enum import StrEnum

from batch_manager.simulation.scenario import Task
from inferoxy.messages import ModelSpec, Scale

_ENDLESS_MS = 1e9
_BOUNDLESS = 1_000_000


class Policy(StrEnum):
    """What the dispatcher is told."""

    FIFO = "fifo"  # nothing that tells one request from another: order of arrival, nothing dropped
    PRIORITY = "priority"  # priorities, bounds and when to give up, as any priority queue: nothing is foreseen
    INFEROXY = "inferoxy"  # as configured


def spec_of(name: str, task: Task, policy: Policy) -> ModelSpec:
    """A task's model as it is registered under a policy."""
    spec = ModelSpec(
        name=name,
        address="simulated",
        batch_size=task.batch_size,
        slots=task.slots,
        queue_mib=task.queue_mib,
        instances=Scale(task.instances, task.instances),
    )
    if policy is Policy.FIFO:
        spec.protect = "none"
        spec.queue_size = _BOUNDLESS
        spec.timeout_ms = _ENDLESS_MS
        return spec
    spec.max_queue_delay_ms = task.max_queue_delay_ms
    spec.priority = task.priority
    spec.timeout_ms = task.timeout_ms
    spec.queue_size = task.queue_size
    spec.drop_policy = task.drop_policy
    if policy is Policy.PRIORITY:
        # A latency budget would make the dispatcher plan: it is no more than a deadline here.
        spec.timeout_ms = min(task.timeout_ms, task.latency_budget_ms or task.timeout_ms)
        spec.protect = "none"
    else:
        spec.latency_budget_ms = task.latency_budget_ms
        spec.target_fps = task.target_fps
        spec.protect = task.protect
    return spec
