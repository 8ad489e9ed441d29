"""What was measured, for people and for programs: notes, a table, a JSON document."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from inferoxy import __version__
from inferoxy.bench.plan import Plan
from inferoxy.bench.runner import Outcome

if TYPE_CHECKING:
    from rich.table import Table

BUSY = 0.85  # of a core: from here on the generator itself may be what is measured
LATE_S = 0.001

CLOSED = (
    "closed loop: a connection sends again when it has its answer, so a slow server is asked less often and these "
    "percentiles leave out who would have come meanwhile; --rate measures that"
)
OPEN = (
    "open loop: latency counts from the instant each request was due, not from when it could be sent (corrected for "
    "coordinated omission)"
)
SAMPLED = "batch, queue and compute are the server's own figures, of a sample of the answers"


def level_name(outcome: Outcome) -> str:
    """How a level of load is called."""
    return f"{outcome.rate:g}/s" if outcome.rate else f"c={outcome.slots}"


def document(plan: Plan, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Everything, JSON-able."""
    return {
        "inferoxy": __version__,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "model": plan.model,
        "version": plan.version,
        "url": plan.url,
        "sent": sent(plan),
        "warmup_s": plan.warmup_s,
        "notes": notes(outcomes),
        "levels": [{"level": level_name(outcome), **outcome.to_dict()} for outcome in outcomes],
    }


def sent(plan: Plan) -> str:
    """What the requests hold, in words."""
    if plan.body:
        return f"V2 JSON body {plan.body}"
    if plan.tensors:
        return "synthetic " + ", ".join(plan.tensors)
    pictures = f"{len(plan.pictures)} pictures" if len(plan.pictures) > 1 else "picture"
    return f"{pictures} {', '.join(plan.pictures[:3])}{', …' if len(plan.pictures) > 3 else ''}"


def machine() -> dict[str, Any]:
    """Where it was measured."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def notes(outcomes: Sequence[Outcome]) -> list[str]:
    """What must be known to read the figures, and what is wrong with them."""
    told = [OPEN] if any(o.rate for o in outcomes) else []
    told += [CLOSED] if any(not o.rate for o in outcomes) else []
    told += [SAMPLED] if any(o.samples.count for o in outcomes) else []
    for outcome in outcomes:
        name = level_name(outcome)
        if outcome.problems:
            told.append(f"{name}: WRONG ANSWERS: {'; '.join(outcome.problems)}")
        if outcome.failed:
            codes = ", ".join(f"{code} {count}" for code, count in sorted(outcome.failures.items()))
            told.append(f"{name}: {outcome.failed} requests failed: {codes}")
        if outcome.rate and outcome.throughput < 0.98 * outcome.rate:
            told.append(f"{name}: the server answered only {outcome.throughput:.0f} requests/s in that time")
        if max(outcome.cpu_shares, default=0.0) > BUSY:
            told.append(
                f"{name}: the load generator used {max(outcome.cpu_shares):.0%} of a core and may be the limit: "
                f"try --processes {2 * outcome.processes}"
            )
        late_s = outcome.lateness.percentile(99)
        if late_s > LATE_S:
            told.append(
                f"{name}: the generator was up to {late_s * 1e3:.1f} ms late itself (p99); it counts as latency"
            )
        if outcome.waited:
            told.append(f"{name}: {outcome.waited} requests waited for one of {outcome.slots} connections")
    return told


def table(outcomes: Sequence[Outcome]) -> "Table":
    """The figures as a table; latencies in milliseconds."""
    from rich.table import Table

    made = Table()
    for column in ("load", "requests/s", "failed", "p50 ms", "p90", "p99", "p99.9", "max", "batch", "queue", "compute"):
        made.add_column(column, justify="left" if column == "load" else "right")
    for outcome in outcomes:
        latency, samples = outcome.latency, outcome.samples
        times = [latency.percentile(percent) for percent in (50, 90, 99, 99.9)] + [latency.most_s]
        served = [f"{samples.mean_batch:.1f}", *map(_ms, (samples.queue.mean_s, samples.compute.mean_s))]
        made.add_row(
            level_name(outcome),
            f"{outcome.throughput:,.0f}" if outcome.throughput >= 100 else f"{outcome.throughput:.1f}",
            str(outcome.failed or ""),
            *(_ms(time_s) if latency.count else "" for time_s in times),
            *(served if samples.count else ("", "", "")),
        )
    return made


def _ms(time_s: float) -> str:
    """Milliseconds with three digits that count."""
    value = time_s * 1e3
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "")
    except OSError:
        return platform.processor()
