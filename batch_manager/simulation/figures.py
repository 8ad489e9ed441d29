"""What an outcome comes to: per task what was executed, dropped and how long it took; how busy the device was.

Pure.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from msgspec import Struct, to_builtins

from batch_manager.simulation.arrivals import US_PER_MS
from batch_manager.simulation.machine import Outcome
from batch_manager.simulation.scenario import Scenario

PERCENTILES = (50, 95, 99)


class TaskFigures(Struct):
    """One task under one policy. Latencies are end to end, of executed requests; None where there are none.

    `within_budget` is None for a task without a budget; `dropped` counts by reason; `device_share` is the part of
    the device's time, until the last run ended, that the task took.
    """

    arrived: int
    executed: int
    within_budget: int | None
    dropped: dict[str, int]
    latency_ms: dict[str, float | None]
    batches: int
    mean_batch: float
    device_share: float


class PolicyFigures(Struct):
    """One policy. `device_use` is the part of the workers' time that was spent on runs until the last one ended."""

    tasks: dict[str, TaskFigures]
    device_use: float
    end_ms: float


def percentile(values: Sequence[float], percent: int) -> float | None:
    """The nearest rank: the smallest value that `percent` of all do not exceed; None of nothing.

    Args:
        values: In rising order.
        percent: 1 to 100.
    """
    return values[-(-percent * len(values) // 100) - 1] if values else None


def figures_of(scenario: Scenario, outcome: Outcome) -> PolicyFigures:
    """The figures of one policy's outcome."""
    end_us = max((run.ends_us for run in outcome.runs), default=0)
    whole_us = max(1, end_us * scenario.workers)
    tasks: dict[str, TaskFigures] = {}
    for name, task in scenario.tasks.items():
        asked = [request for request in outcome.requests if request.task == name]
        latencies = sorted(request.latency_ms for request in asked if not request.code)
        runs = [run for run in outcome.runs if run.task == name]
        budget_ms = task.latency_budget_ms
        latency_ms = {f"p{percent}": percentile(latencies, percent) for percent in PERCENTILES}
        tasks[name] = TaskFigures(
            arrived=len(asked),
            executed=len(latencies),
            within_budget=sum(latency <= budget_ms for latency in latencies) if budget_ms else None,
            dropped=dict(Counter(request.reason or request.code for request in asked if request.code)),
            latency_ms=latency_ms | {"max": latencies[-1] if latencies else None},
            batches=len(runs),
            mean_batch=sum(len(run.requests) for run in runs) / max(1, len(runs)),
            device_share=sum(run.ends_us - run.begun_us for run in runs) / whole_us,
        )
    use = sum(figures.device_share for figures in tasks.values())
    return PolicyFigures(tasks, use, end_us / US_PER_MS)


def document(scenario: Scenario, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """All figures and what they are of, JSON-able."""
    return {
        "scenario": scenario.model_dump(mode="json", exclude_defaults=True) | {"seed": scenario.seed},
        "workers": scenario.workers,
        "policies": {o.policy.value: to_builtins(figures_of(scenario, o)) for o in outcomes},
    }
