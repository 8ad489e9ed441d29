"""When the requests of a task come, and how much longer or shorter than usual each takes.

Pure: the same seed gives the same stream, whatever the policy and whatever the other tasks.
"""

import random
from typing import NamedTuple

from batch_manager.simulation.scenario import Arrivals, Task

US_PER_MS = 1000


class Arrival(NamedTuple):
    """One request to come. `stretch` is what its service time is multiplied by."""

    at_us: int
    stretch: float


def arrivals_of(name: str, task: Task, seed: int) -> list[Arrival]:
    """A task's requests in the order they come."""
    # Streams of their own: whether arrivals or service times vary does not change the other.
    clock, work = random.Random(f"{seed}/{name}/arrivals"), random.Random(f"{seed}/{name}/service")
    offset_ms, late_ms = task.arrivals.offset_ms, task.arrivals.jitter_ms
    times_ms = [at + offset_ms + (clock.uniform(0, late_ms) if late_ms else 0.0) for at in _times_ms(task, clock)]
    stretch = [1 + task.jitter * work.uniform(-1, 1) if task.jitter else 1.0 for _ in times_ms]
    return [Arrival(round(at * US_PER_MS), share) for at, share in zip(sorted(times_ms), stretch, strict=True)]


def _times_ms(task: Task, clock: random.Random) -> list[float]:
    arrivals: Arrivals = task.arrivals
    if arrivals.poisson:
        times_ms: list[float] = []
        at_s = clock.expovariate(arrivals.poisson.rate_per_s)
        while at_s < arrivals.poisson.duration_s:
            times_ms.append(at_s * 1e3)
            at_s += clock.expovariate(arrivals.poisson.rate_per_s)
        return times_ms
    if arrivals.bursts:
        bursts = arrivals.bursts
        return [number * bursts.every_ms for number in range(bursts.count) for _ in range(bursts.size)]
    if arrivals.times_ms is not None:
        return list(arrivals.times_ms)
    return [number * (arrivals.every_ms or 0.0) for number in range(arrivals.count or 0)]
