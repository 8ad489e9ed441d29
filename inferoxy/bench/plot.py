"""Latency against load as one file: .html with the chart, the table and nothing from elsewhere, .svg or .png."""

from collections.abc import Sequence
from pathlib import Path

from inferoxy.bench import chart, report
from inferoxy.bench.chart import SCALE, SUFFIXES, Curve, Shape, Text, check_name
from inferoxy.bench.plan import Plan
from inferoxy.bench.runner import Outcome

__all__ = ["SCALE", "SUFFIXES", "check_name", "shapes_of", "to_html", "to_svg", "write"]

PERCENTILES = (50.0, 90.0, 99.0, 99.9)

_COLUMNS = ("load", "requests/s", "failed", "p50 ms", "p90", "p99", "p99.9", "max", "batch", "queue ms", "compute ms")


def write(path: Path, plan: Plan, outcomes: Sequence[Outcome]) -> None:
    """Write the chart of these levels.

    Raises:
        InferoxyError: It is to be a PNG and Pillow is not installed.
        OSError: The file cannot be written.
    """
    shapes = shapes_of(outcomes)
    suffix = path.suffix.lower()
    if suffix == ".png":
        title = f"{plan.model} at {plan.url}, {report.sent(plan)}"
        shown = title if len(title) < 90 else title[:89] + "…"
        path.write_bytes(chart.to_png([*shapes, Text(chart.WIDTH - 16, 20, shown, "end", chart.FAINT)]))
    elif suffix == ".svg":
        path.write_text(to_svg(shapes))
    else:
        path.write_text(to_html(shapes, plan, outcomes))


def shapes_of(outcomes: Sequence[Outcome]) -> list[Shape]:
    """The chart: a curve for each percentile of latency, over the requests per second that were answered."""
    reached = [o for o in outcomes if o.latency.count]  # in the order of loads: past saturation a curve bends back
    curves = [
        Curve(f"p{percent:g}", [(o.throughput, o.latency.percentile(percent) * 1e3, _tip(o, percent)) for o in reached])
        for percent in PERCENTILES
    ]
    return chart.draw(curves, "requests answered per second", "latency in milliseconds")


def to_svg(shapes: Sequence[Shape]) -> str:
    """The shapes as an SVG picture."""
    return chart.to_svg(shapes)


def to_html(shapes: Sequence[Shape], plan: Plan, outcomes: Sequence[Outcome]) -> str:
    """A page with the chart, the figures and the notes."""
    where = report.machine()
    head = f"inferoxy bench {plan.model}"
    about = f"{plan.url}; {report.sent(plan)}; {where['cores']} cores, {where['processor']}"
    notes = report.notes(outcomes)
    return chart.to_page(head, about, to_svg(shapes), _COLUMNS, [_row(outcome) for outcome in outcomes], notes)


def _row(outcome: Outcome) -> list[str]:
    content = outcome.to_dict()
    latency, served = content["latency_ms"], content["served"]
    return [
        report.level_name(outcome),
        f"{outcome.throughput:,.1f}",
        str(outcome.failed),
        *(f"{latency[name]:.2f}" for name in ("p50", "p90", "p99", "p99.9", "max")),
        f"{served['mean_batch']:.1f}",
        f"{served['queue_ms']['mean']:.2f}",
        f"{served['compute_ms']['mean']:.2f}",
    ]


def _tip(outcome: Outcome, percent: float) -> str:
    latency_ms = outcome.latency.percentile(percent) * 1e3
    return f"{report.level_name(outcome)}: p{percent:g} {latency_ms:.2f} ms at {outcome.throughput:,.0f} requests/s"
