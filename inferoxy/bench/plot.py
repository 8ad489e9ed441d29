"""Latency against load as one file: .html with the chart, the table and nothing from elsewhere, .svg or .png."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from inferoxy.bench import chart, report
from inferoxy.bench.chart import Curve, Dot, Line, Shape, Text
from inferoxy.bench.plan import Plan
from inferoxy.bench.runner import Outcome
from inferoxy.errors import InferoxyError, InvalidRequest

SUFFIXES = (".html", ".svg", ".png")
PERCENTILES = (50.0, 90.0, 99.0, 99.9)
SCALE = 2  # pixels of a PNG for each of the chart's

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; background: #fff; max-width: 900px; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.3rem; margin: 0; }
p, li { color: #52606d; }
svg { width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid #dde3ea; }
th:first-child, td:first-child { text-align: left; }
"""
_COLUMNS = ("load", "requests/s", "failed", "p50 ms", "p90", "p99", "p99.9", "max", "batch", "queue ms", "compute ms")


def check_name(path: Path) -> None:
    """Raise InvalidRequest for a file name that is no chart's."""
    if path.suffix.lower() not in SUFFIXES:
        raise InvalidRequest(f"plot: expected a file name ending in {', '.join(SUFFIXES)}, found {path}")


def write(path: Path, plan: Plan, outcomes: Sequence[Outcome]) -> None:
    """Write the chart of these levels.

    Raises:
        InferoxyError: It is to be a PNG and Pillow is not installed.
        OSError: The file cannot be written.
    """
    shapes = shapes_of(outcomes)
    suffix = path.suffix.lower()
    if suffix == ".png":
        _write_png(path, shapes, f"{plan.model} at {plan.url}, {report.sent(plan)}")
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
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {chart.WIDTH} {chart.HEIGHT}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="{chart.TEXT_SIZE}">',
        f'<rect width="{chart.WIDTH}" height="{chart.HEIGHT}" fill="#fff"/>',
    ]
    return "\n".join([*parts, *map(_svg, shapes), "</svg>\n"])


def to_html(shapes: Sequence[Shape], plan: Plan, outcomes: Sequence[Outcome]) -> str:
    """A page with the chart, the figures and the notes."""
    where = report.machine()
    head = f"inferoxy bench {plan.model}"
    about = f"{plan.url}; {report.sent(plan)}; {where['cores']} cores, {where['processor']}"
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in _row(outcome))}</tr>" for outcome in outcomes)
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes(outcomes))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(head)}</title>'
        f"<style>{_STYLE}</style></head><body>\n<h1>{escape(head)}</h1>\n<p>{escape(about)}</p>\n{to_svg(shapes)}"
        f"<table><tr>{''.join(f'<th>{name}</th>' for name in _COLUMNS)}</tr>{rows}</table>\n<ul>{notes}</ul>\n"
        f"</body></html>\n"
    )


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


def _svg(shape: Shape) -> str:
    if isinstance(shape, Line):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
        return f'<polyline points="{points}" fill="none" stroke="{shape.colour}" stroke-width="{shape.width:g}"/>'
    if isinstance(shape, Dot):
        return (
            f'<circle cx="{shape.x:.1f}" cy="{shape.y:.1f}" r="{shape.radius:g}" fill="{shape.colour}">'
            f"<title>{escape(shape.tip)}</title></circle>"
        )
    weight = ' font-weight="600"' if shape.bold else ""
    return (
        f'<text x="{shape.x:.1f}" y="{shape.y:.1f}" dominant-baseline="central" text-anchor="{shape.anchor}" '
        f'fill="{shape.colour}"{weight}>{escape(shape.text)}</text>'
    )


def _write_png(path: Path, shapes: Sequence[Shape], title: str) -> None:
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ModuleNotFoundError as exc:
        raise InferoxyError("plot: a .png needs Pillow: pip install 'inferoxy[server]'; .html and .svg do not") from exc
    picture = Image.new("RGB", (chart.WIDTH * SCALE, chart.HEIGHT * SCALE), "white")
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(chart.TEXT_SIZE * SCALE)
    anchors = {"start": "lm", "middle": "mm", "end": "rm"}
    titled = [*shapes, Text(chart.WIDTH - 16, 20, title if len(title) < 90 else title[:89] + "…", "end", chart.FAINT)]
    for shape in titled:
        if isinstance(shape, Line):
            pen.line([(x * SCALE, y * SCALE) for x, y in shape.points], shape.colour, round(shape.width * SCALE))
        elif isinstance(shape, Dot):
            x, y, radius = shape.x * SCALE, shape.y * SCALE, shape.radius * SCALE
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), shape.colour)
        else:
            where = (shape.x * SCALE, shape.y * SCALE)
            pen.text(where, shape.text, shape.colour, font, anchors[shape.anchor])
    picture.save(path)
