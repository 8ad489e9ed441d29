"""A chart as plain shapes: curves of positive values over a linear axis, on a logarithmic one. Pure.

plot.py turns the shapes into SVG or pixels. Coordinates are pixels from the upper left corner.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

WIDTH, HEIGHT = 860, 460
LEFT, RIGHT, TOP, BOTTOM = 76, 96, 44, 58  # room around the plotting area
TEXT_SIZE = 13
LABEL_GAP = 16  # between the names of two curves, at their ends

INK, FAINT, GRID = "#1f2933", "#616e7c", "#dde3ea"
# Told apart by people of all kinds of colour vision (Okabe and Ito), and each curve has its name beside it.
COLOURS = ("#0072b2", "#009e73", "#d55e00", "#aa4499")


class Line(NamedTuple):
    """Straight pieces through these points."""

    points: list[tuple[float, float]]
    colour: str
    width: float = 1.0


class Dot(NamedTuple):
    """A point of a curve; `tip` says what it stands for."""

    x: float
    y: float
    colour: str
    tip: str
    radius: float = 4.0


class Text(NamedTuple):
    """Words; x is their left end, middle or right end; y is the middle of their height."""

    x: float
    y: float
    text: str
    anchor: Literal["start", "middle", "end"] = "start"
    colour: str = INK
    bold: bool = False


Shape = Line | Dot | Text


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


def _next_step(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, …"""
    power = 10.0 ** math.floor(math.log10(value) + 1e-9)
    factor = {1: 2, 2: 5, 5: 10}[round(value / power)]
    return factor * power
