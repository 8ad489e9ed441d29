"""A scenario's outcomes as one picture: for each policy what the workers ran over time, and each request's latency.

Pure; chart.py turns the shapes into SVG, PNG or a page. What can hardly be told apart is drawn once.
"""

import heapq
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from batch_manager.simulation.arrivals import US_PER_MS
from batch_manager.simulation.figures import figures_of
from batch_manager.simulation.machine import Outcome, Run
from batch_manager.simulation.scenario import Scenario, Task
from inferoxy.bench.chart import FAINT, GRID, Dot, Line, Rect, Shape, Text, linear_ticks, log_ticks

WIDTH = 1040
LEFT, RIGHT = 84, 34
# Told apart by people of all kinds of colour vision (Okabe and Ito).
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#5b4b8a")
SMALL = 11.0
LEAST_MS = 0.1  # what is quicker is drawn there: the axis is logarithmic
KEY = (
    "Upper rows: what each worker runs. Lower: latency from arrival to answer, at the instant of arrival; a ring is "
    "beyond the budget (dashed), a cross was dropped."
)
_LINE, _LANE, _DROPPED, _LATENCY = 19, 20, 16, 130  # heights
_ALL_LANES = 160
_LABEL = 13  # height of a number beside an axis
_HAIR = 0.5  # what adds less to a lane is not drawn
_GRAIN = 1.5  # dots and crosses that are closer are drawn once
_CHARACTER = 7.2  # pixels, on average


class Picture(NamedTuple):
    """Shapes, and the size of what they are drawn on."""

    shapes: list[Shape]
    width: int
    height: int


def picture(scenario: Scenario, outcomes: Sequence[Outcome]) -> Picture:
    """Draw the outcomes below one another, over the same axes."""
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(scenario.tasks)}
    longest = max(len(name) for name in scenario.tasks)
    shapes: list[Shape] = []
    y = 22.0
    for name, task in scenario.tasks.items():
        shapes += [Rect(16, y - 6, 12, 12, colours[name]), Text(36, y, name, bold=True)]
        shapes.append(Text(36 + _CHARACTER * longest + 16, y, _about(task), colour=FAINT))
        y += _LINE
    shapes.append(Text(16, y + 2, KEY, colour=FAINT, size=SMALL))
    y += 34
    axes = _Axes(scenario, outcomes)
    for outcome in outcomes:
        panel = _Panel(scenario, outcome, axes, colours)
        y = panel.draw(y) + 34
        shapes += panel.shapes
    return Picture(shapes, WIDTH, round(y - 10))


def _about(task: Task) -> str:
    parts = [f"{task.service_ms:g} ms", f"priority {task.priority}"]
    if task.latency_budget_ms:
        parts.append(f"budget {task.latency_budget_ms:g} ms")
    if task.protect == "strict":
        parts.append("protected strictly")
    if task.batch_size > 1:
        parts.append(f"batches of up to {task.batch_size}")
    if task.instances > 1:
        parts.append(f"{task.instances} instances")
    return ", ".join(parts)


class _Axes:
    """What all panels share: time across, latency up on a logarithm."""

    def __init__(self, scenario: Scenario, outcomes: Sequence[Outcome]) -> None:
        self._end_ms = max(1.0, *(outcome.end_us / US_PER_MS for outcome in outcomes))
        self.x_ticks = [tick for tick in linear_ticks(self._end_ms) if tick <= self._end_ms]
        values = [r.latency_ms for outcome in outcomes for r in outcome.requests if not r.code]
        values += [task.latency_budget_ms for task in scenario.tasks.values() if task.latency_budget_ms]
        seen = [max(LEAST_MS, value) for value in values] or [1.0]
        self.y_ticks = log_ticks(min(seen), max(seen))
        self._low, self._high = math.log(self.y_ticks[0]), math.log(self.y_ticks[-1])

    def x(self, at_us: float) -> float:
        return LEFT + at_us / US_PER_MS / self._end_ms * (WIDTH - LEFT - RIGHT)

    def below(self, latency_ms: float) -> float:
        """Pixels below the upper end of the axis."""
        share = (math.log(max(LEAST_MS, latency_ms)) - self._low) / (self._high - self._low)
        return (1 - share) * _LATENCY


class _Panel:
    """One policy."""

    def __init__(self, scenario: Scenario, outcome: Outcome, axes: _Axes, colours: Mapping[str, str]) -> None:
        self._scenario = scenario
        self._outcome = outcome
        self._axes = axes
        self._colours = colours
        self.shapes: list[Shape] = []

    def draw(self, y: float) -> float:
        """Draw from here on; where it ended."""
        y = self._lanes(self._title(y) + 18) + 6
        if any(request.code for request in self._outcome.requests):
            y = self._dropped(y)
        return self._latencies(y + 6)

    def _title(self, y: float) -> float:
        figures = figures_of(self._scenario, self._outcome)
        self.shapes.append(Text(16, y, self._outcome.policy.value, bold=True, size=15))
        x = start = LEFT + 10.0
        for task, of_task in figures.tasks.items():
            p95 = of_task.latency_ms["p95"]
            words = f"{task}: {of_task.executed} of {of_task.arrived} executed"
            if of_task.within_budget is not None:
                words += f", {of_task.within_budget} in time"
            words += f", p95 {f'{p95:.4g}' if p95 < 1000 else f'{p95:,.0f}'} ms" if p95 is not None else ""
            width = len(words) * _CHARACTER
            if x > start and x + width > WIDTH - RIGHT:
                x, y = start, y + _LINE
            self.shapes.append(Text(x, y, words, colour=self._colours[task]))
            x += width + 16
        return y

    def _lanes(self, y: float) -> float:
        lanes = _lanes_of(self._outcome.runs, self._scenario.workers)
        height = max(3.0, min(_LANE, _ALL_LANES / len(lanes)))
        gap = 3.0 if height > 8 else 1.0
        for number, runs in enumerate(lanes):
            top = y + number * height
            self.shapes.append(Rect(LEFT, top, WIDTH - LEFT - RIGHT, height - gap, "#f1f4f7"))
            if height > 10:
                label = "worker" if len(lanes) == 1 else f"worker {number + 1}"
                self.shapes.append(Text(LEFT - 10, top + (height - gap) / 2, label, "end", FAINT))
            drawn_to = 0.0
            for run in runs:
                right = self._axes.x(run.ends_us)
                if right - drawn_to > _HAIR:
                    self._run(run, top, height - gap)
                    drawn_to = right
        return y + len(lanes) * height

    def _run(self, run: Run, top: float, height: float) -> None:
        left, right = self._axes.x(run.begun_us), self._axes.x(run.ends_us)
        numbers = [self._outcome.requests[number].number for number in run.requests]
        shown = f"#{numbers[0]}" if len(numbers) == 1 else f"{len(numbers)} requests"
        span = f"{run.begun_us / US_PER_MS:g} to {run.ends_us / US_PER_MS:g} ms"
        # A hair's breadth between runs shows where one ends.
        width = max(0.4, right - left - (0.6 if right - left > 3 else 0))
        self.shapes.append(Rect(left, top, width, height, self._colours[run.task], f"{run.task} {shown}, {span}"))
        label = str(numbers[0]) if len(numbers) == 1 else f"x{len(numbers)}"
        if width > 7.5 * len(label) + 6 and height > 12:
            self.shapes.append(Text(left + width / 2, top + height / 2, label, "middle", "#fff", size=SMALL))

    def _dropped(self, y: float) -> float:
        self.shapes.append(Text(LEFT - 10, y + _DROPPED / 2, "dropped", "end", FAINT, size=SMALL))
        seen: set[tuple[int, str]] = set()
        for request in self._outcome.requests:
            x = self._axes.x(request.answered_us or 0)
            if request.code and (round(x / _GRAIN), request.task) not in seen:
                seen.add((round(x / _GRAIN), request.task))
                colour, middle, arm = self._colours[request.task], y + _DROPPED / 2, 3.5
                for way in (-arm, arm):
                    self.shapes.append(Line([(x - arm, middle - way), (x + arm, middle + way)], colour, 1.5))
        return y + _DROPPED

    def _latencies(self, y: float) -> float:
        axes, right, bottom = self._axes, WIDTH - RIGHT, y + _LATENCY
        for tick in axes.y_ticks:
            at = y + axes.below(tick)
            self.shapes.append(Line([(LEFT, at), (right, at)], GRID))
            if _LATENCY / (len(axes.y_ticks) - 1) > _LABEL or _is_power_of_ten(tick):
                self.shapes.append(Text(LEFT - 10, at, f"{tick:g} ms", "end", FAINT, size=SMALL))
        for tick in axes.x_ticks:
            x = axes.x(tick * US_PER_MS)
            self.shapes.append(Line([(x, bottom), (x, bottom + 4)], FAINT))
            self.shapes.append(Text(x, bottom + 13, f"{tick:,g} ms", "middle", FAINT, size=SMALL))
        self.shapes.append(Line([(LEFT, bottom), (right, bottom)], FAINT))
        for name, task in self._scenario.tasks.items():
            if task.latency_budget_ms:
                at = y + axes.below(task.latency_budget_ms)
                self.shapes.append(Line([(LEFT, at), (right, at)], self._colours[name], 1.2, dash=5))
        self._dots(y)
        return bottom + 13

    def _dots(self, y: float) -> None:
        seen: set[tuple[int, int, str]] = set()
        for request in self._outcome.requests:
            if request.code:
                continue
            x, at = self._axes.x(request.arrived_us), y + self._axes.below(request.latency_ms)
            if (place := (round(x / _GRAIN), round(at / _GRAIN), request.task)) in seen:
                continue
            seen.add(place)
            budget_ms = self._scenario.tasks[request.task].latency_budget_ms
            is_within = not budget_ms or request.latency_ms <= budget_ms
            tip = f"{request.task} #{request.number}: {request.latency_ms:g} ms"
            self.shapes.append(Dot(x, at, self._colours[request.task], tip, 3.2, is_within))


def _is_power_of_ten(value: float) -> bool:
    exponent = math.log10(value)
    return abs(exponent - round(exponent)) < 1e-6


def _lanes_of(runs: Sequence[Run], workers: int) -> list[list[Run]]:
    """Each run in the first lane that is free when it begins; a lane for each worker at least."""
    lanes: list[list[Run]] = [[] for _ in range(workers)]
    free = list(range(workers))
    busy: list[tuple[int, int]] = []
    for run in sorted(runs, key=lambda run: (run.begun_us, run.ends_us)):
        while busy and busy[0][0] <= run.begun_us:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if not free:
            free.append(len(lanes))
            lanes.append([])
        lane = heapq.heappop(free)
        lanes[lane].append(run)
        heapq.heappush(busy, (run.ends_us, lane))
    return lanes
