"""Pictures as plain shapes, and one that is made of them: curves of positive values over a linear axis. Pure.

Shapes become SVG, a page or the content of a PNG file here. Coordinates are pixels from the upper left corner; a PNG
has SCALE times as many.
"""

import io
import math
from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

from inferoxy.errors import InferoxyError, InvalidRequest

SUFFIXES = (".html", ".svg", ".png")
SCALE = 2
_OVER = 2  # a PNG is drawn this many times as large and reduced: Pillow's own lines have hard edges

WIDTH, HEIGHT = 860, 460
LEFT, RIGHT, TOP, BOTTOM = 76, 96, 44, 58  # room around the plotting area
TEXT_SIZE = 13
LABEL_GAP = 16  # between the names of two curves, at their ends

INK, FAINT, GRID = "#1f2933", "#616e7c", "#dde3ea"
# Told apart by people of all kinds of colour vision (Okabe and Ito), and each curve has its name beside it.
COLOURS = ("#0072b2", "#009e73", "#d55e00", "#aa4499")

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


class Line(NamedTuple):
    """Straight pieces through these points; `dash` is the length of a dash and of a gap, 0 for an unbroken line."""

    points: list[tuple[float, float]]
    colour: str
    width: float = 1.0
    dash: float = 0.0


class Rect(NamedTuple):
    """A filled rectangle; `tip` says what it stands for."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    tip: str = ""


class Dot(NamedTuple):
    """A point of a curve, a ring where it is not filled; `tip` says what it stands for."""

    x: float
    y: float
    colour: str
    tip: str
    radius: float = 4.0
    filled: bool = True


class Text(NamedTuple):
    """Words; x is their left end, middle or right end; y is the middle of their height."""

    x: float
    y: float
    text: str
    anchor: Literal["start", "middle", "end"] = "start"
    colour: str = INK
    bold: bool = False
    size: float = TEXT_SIZE


Shape = Line | Rect | Dot | Text


class Curve(NamedTuple):
    """Points (x, y, what it stands for), y positive."""

    name: str
    points: list[tuple[float, float, str]]


def draw(curves: Sequence[Curve], x_title: str, y_title: str) -> list[Shape]:
    """The shapes of a chart."""
    points = [point for curve in curves for point in curve.points]
    if not points:
        return [Text(WIDTH / 2, HEIGHT / 2, "nothing was answered", "middle", FAINT)]
    x_ticks = linear_ticks(max(x for x, _, _ in points))
    y_ticks = log_ticks(min(y for _, y, _ in points), max(y for _, y, _ in points))
    x_top, y_low, y_high = x_ticks[-1], math.log(y_ticks[0]), math.log(y_ticks[-1])

    def at(x: float, y: float) -> tuple[float, float]:
        across, up = x / x_top, (math.log(y) - y_low) / (y_high - y_low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    shapes: list[Shape] = []
    for tick in y_ticks:
        _, y = at(0, tick)
        shapes += [Line([(LEFT, y), (WIDTH - RIGHT, y)], GRID), Text(LEFT - 10, y, f"{tick:g}", "end", FAINT)]
    for tick in x_ticks:
        x, _ = at(tick, y_ticks[0])
        shapes.append(Text(x, HEIGHT - BOTTOM + 18, f"{tick:,g}", "middle", FAINT))
    shapes.append(Line([(LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, HEIGHT - BOTTOM)], FAINT))
    shapes.append(Text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, x_title, "middle"))
    shapes.append(Text(16, 20, y_title))
    ends: list[tuple[float, float, str, str]] = []
    for curve, colour in zip(curves, COLOURS, strict=False):
        placed = [at(x, y) for x, y, _ in curve.points]
        if not placed:
            continue
        shapes.append(Line(placed, colour, 2.0))
        shapes += [Dot(x, y, colour, tip) for (x, y), (_, _, tip) in zip(placed, curve.points, strict=True)]
        ends.append((placed[-1][1], placed[-1][0], curve.name, colour))
    lowest = math.inf
    for y, x, name, colour in sorted(ends, reverse=True):
        lowest = min(y, lowest - LABEL_GAP)
        shapes.append(Text(x + 10, lowest, name, colour=colour, bold=True))
    return shapes


def linear_ticks(highest: float) -> list[float]:
    """0 and up to eight equal steps of 1, 2 or 5 times a power of ten, the last at or above `highest`."""
    if highest <= 0:
        return [0.0, 1.0]
    step = 10 ** math.floor(math.log10(highest / 8))
    while highest / step > 8:
        step = _next_step(step)
    return [number * step for number in range(math.ceil(highest / step - 1e-9) + 1)]


def log_ticks(lowest: float, highest: float) -> list[float]:
    """1, 2 and 5 times powers of ten from at or below `lowest` to at or above `highest`; at least two."""
    tick = 10.0 ** math.floor(math.log10(lowest))
    while _next_step(tick) <= lowest:
        tick = _next_step(tick)
    ticks = [tick]
    while ticks[-1] < highest or len(ticks) < 2:
        ticks.append(_next_step(ticks[-1]))
    return ticks


def check_name(path: Path) -> None:
    """Raise InvalidRequest for a file name that is no picture's or page's."""
    if path.suffix.lower() not in SUFFIXES:
        raise InvalidRequest(f"plot: expected a file name ending in {', '.join(SUFFIXES)}, found {path}")


def to_svg(shapes: Sequence[Shape], width: int = WIDTH, height: int = HEIGHT) -> str:
    """The shapes as an SVG picture."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="{TEXT_SIZE}">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    return "\n".join([*parts, *map(_svg, shapes), "</svg>\n"])


def to_png(shapes: Sequence[Shape], width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """The shapes as the content of a PNG file.

    Raises:
        InferoxyError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ModuleNotFoundError as exc:
        raise InferoxyError("plot: a .png needs Pillow: pip install 'inferoxy[server]'; .html and .svg do not") from exc
    by = SCALE * _OVER
    picture = Image.new("RGB", (width * by, height * by), "white")
    pen = ImageDraw.Draw(picture)
    anchors = {"start": "lm", "middle": "mm", "end": "rm"}
    for shape in shapes:
        if isinstance(shape, Text):
            font = ImageFont.load_default(shape.size * by)
            bolder = by / 8 if shape.bold else 0.0  # the only font that is always there has no bold face
            where = (shape.x * by, shape.y * by)
            pen.text(where, shape.text, shape.colour, font, anchors[shape.anchor], stroke_width=bolder)
        else:
            _draw_on(pen, shape, by)
    content = io.BytesIO()
    picture.reduce(_OVER).save(content, "PNG")
    return content.getvalue()


def to_page(
    head: str, about: str, svg: str, columns: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str]
) -> str:
    """An HTML page with a picture, a table and notes; it needs nothing from elsewhere."""
    header = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(head)}</title>'
        f"<style>{_STYLE}</style></head><body>\n<h1>{escape(head)}</h1>\n<p>{escape(about)}</p>\n{svg}"
        f"<table><tr>{header}</tr>{body}</table>\n<ul>{items}</ul>\n</body></html>\n"
    )


def _draw_on(pen: Any, shape: Line | Rect | Dot, by: int) -> None:
    if isinstance(shape, Line):
        for piece in _dashes(shape) if shape.dash else [shape.points]:
            pen.line([(x * by, y * by) for x, y in piece], shape.colour, round(shape.width * by), joint="curve")
    elif isinstance(shape, Rect):
        left, top = shape.x * by, shape.y * by
        pen.rectangle((left, top, left + max(shape.width * by - 1, 0), top + shape.height * by - 1), shape.colour)
    else:
        x, y, radius = shape.x * by, shape.y * by, shape.radius * by
        inside = shape.colour if shape.filled else "white"
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), inside, shape.colour, round(1.5 * by))


def _dashes(line: Line) -> Iterator[list[tuple[float, float]]]:
    for (x0, y0), (x1, y1) in pairwise(line.points):
        length = math.dist((x0, y0), (x1, y1))
        for number in range(math.ceil(length / (2 * line.dash))):
            ends = (2 * number * line.dash / length, min((2 * number + 1) * line.dash / length, 1.0))
            yield [(x0 + part * (x1 - x0), y0 + part * (y1 - y0)) for part in ends]


def _svg(shape: Shape) -> str:
    if isinstance(shape, Line):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
        dash = f' stroke-dasharray="{shape.dash:g}"' if shape.dash else ""
        return f'<polyline points="{points}" fill="none" stroke="{shape.colour}" stroke-width="{shape.width:g}"{dash}/>'
    if isinstance(shape, Rect):
        return (
            f'<rect x="{shape.x:.2f}" y="{shape.y:.1f}" width="{shape.width:.2f}" height="{shape.height:.1f}" '
            f'fill="{shape.colour}"><title>{escape(shape.tip)}</title></rect>'
        )
    if isinstance(shape, Dot):
        look = f'fill="{shape.colour}"' if shape.filled else f'fill="#fff" stroke="{shape.colour}" stroke-width="1.5"'
        return (
            f'<circle cx="{shape.x:.1f}" cy="{shape.y:.1f}" r="{shape.radius:g}" {look}>'
            f"<title>{escape(shape.tip)}</title></circle>"
        )
    weight = ' font-weight="600"' if shape.bold else ""
    size = "" if shape.size == TEXT_SIZE else f' font-size="{shape.size:g}"'
    return (
        f'<text x="{shape.x:.1f}" y="{shape.y:.1f}" dominant-baseline="central" text-anchor="{shape.anchor}" '
        f'fill="{shape.colour}"{weight}{size}>{escape(shape.text)}</text>'
    )


def _next_step(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, …"""
    power = 10.0 ** math.floor(math.log10(value) + 1e-9)
    factor = {1: 2, 2: 5, 5: 10}[round(value / power)]
    return factor * power
