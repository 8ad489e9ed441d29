"""Results as Markdown. Pure."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from inferoxy.bench.suite.readings import Reading
from inferoxy.bench.suite.verdict import Judged, Rounds, is_noisy
from inferoxy.bench.suite.workloads import Workload

HOT = ("bridge_rest", "bridge_zmq", "batch_manager", "instance")  # components on a request's path


def markdown(
    about: Mapping[str, Any], found: Mapping[str, tuple[Workload, Rounds, Sequence[Judged]]], line: str
) -> str:
    """The whole report.

    Args:
        about: The machine and the settings of the run.
        found: By workload: what was measured, and what of it holds.
        line: The last line.
    """
    parts = ["# Benchmark\n", "\n".join(f"- {name}: {value}" for name, value in about.items()), ""]
    for workload, rounds, judged in found.values():
        parts += [f"## {workload.name}: {workload.title}\n", _readings(workload, rounds), "", _checks(judged), ""]
    parts += [
        "Medians of the rounds, with the lowest and highest. CPU is of the server, in microseconds per request; ~ "
        "marks what other processes disturbed.\n",
        f"`{line}`\n",
    ]
    return "\n".join(parts)


def _readings(workload: Workload, rounds: Rounds) -> str:
    rows = [["", "requests/s", "p50 ms", "p99 ms", "batch", "failed", *(f"CPU {name}" for name in HOT), "measured by"]]
    for probe in workload.probes:
        mine = [one[probe.key] for one in rounds if probe.key in one]
        if not mine:
            rows.append([probe.title, "not measured: no C compiler", *[""] * (len(rows[0]) - 2)])
            continue
        noisy = "~" if any(map(is_noisy, mine)) else ""
        batch = median(r.mean_batch for r in mine)
        rows.append(
            [
                f"{noisy}{probe.title}",
                _spread([r.requests_per_s for r in mine], ",.0f"),
                _spread([r.p50_ms for r in mine], ".3g"),
                _spread([r.p99_ms for r in mine], ".3g"),
                f"{batch:.1f}" if batch else "",
                str(sum(r.failed for r in mine) or ""),
                *(_cpu(mine, name) for name in HOT),
                mine[0].generator,
            ]
        )
    return _table(rows)


def _checks(judged: Sequence[Judged]) -> str:
    rows = [["must hold", "measured", "spread", ""]]
    for one in judged:
        if one.value is None:
            rows.append([one.check.text, "not measured", "", "no"])
            continue
        spread = f"{one.low:.3g} to {one.high:.3g}"
        rows.append([one.check.text, f"{'~' * one.is_noisy}{one.value:.3g}", spread, "yes" if one.holds else "**no**"])
    return _table(rows)


def _cpu(readings: Sequence[Reading], name: str) -> str:
    spent = [r.cpu_us[name] for r in readings if name in r.cpu_us]
    return f"{median(spent):.0f}" if spent and median(spent) >= 1 else ""


def _spread(values: Sequence[float], form: str) -> str:
    low, middle, high = (format(value, form) for value in (min(values), median(values), max(values)))
    return middle if low == high else f"{middle} ({low}–{high})"


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
