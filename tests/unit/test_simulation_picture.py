"""What is drawn of a simulation."""

import io
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from batch_manager.simulation import scenario_file
from batch_manager.simulation.machine import simulate
from batch_manager.simulation.picture import COLOURS, LEFT, RIGHT, WIDTH, Picture, picture
from batch_manager.simulation.policies import Policy
from batch_manager.simulation.scenario import Arrivals, Scenario, Task
from inferoxy.bench import chart
from inferoxy.bench.chart import Dot, Line, Rect, Text

EXAMPLES = Path(__file__).parents[2] / "examples" / "simulation"
REFERENCE = scenario_file.load(EXAMPLES / "reference.yaml")


def drawn(scenario: Scenario, *policies: Policy) -> Picture:
    return picture(scenario, [simulate(scenario, policy) for policy in policies])


def words(found: Picture) -> list[str]:
    return [shape.text for shape in found.shapes if isinstance(shape, Text)]


def test_each_run_is_a_bar_as_long_as_it_took() -> None:
    found = drawn(REFERENCE, Policy.FIFO)
    bars = [s for s in found.shapes if isinstance(s, Rect) and s.tip]
    pixels_per_ms = (WIDTH - LEFT - RIGHT) / 1060
    assert len(bars) == 40
    for colour, service_ms in zip(COLOURS, (8, 45), strict=False):
        mine = [bar for bar in bars if bar.colour == colour]
        assert len(mine) == 20
        assert [bar.width for bar in mine] == [pytest.approx(service_ms * pixels_per_ms - 0.6, abs=0.01)] * 20
    assert bars[0].tip == "detector #0, 0 to 8 ms"
    assert all(a.x + a.width <= b.x for a, b in pairwise(bars))
    assert bars[-1].x + bars[-1].width <= WIDTH - RIGHT


def test_each_answered_request_is_a_dot_and_a_ring_where_it_missed_its_budget() -> None:
    dots = [s for s in drawn(REFERENCE, Policy.FIFO).shapes if isinstance(s, Dot)]
    detector = [dot for dot in dots if dot.colour == COLOURS[0]]
    assert [dot.filled for dot in detector] == [True] * 2 + [False] * 18
    assert detector[18].tip == "detector #18: 782 ms"
    assert [a.y > b.y for a, b in pairwise(detector)] == [True] * 19, "later requests waited longer"


def test_each_dropped_request_is_a_cross() -> None:
    found = drawn(REFERENCE, Policy.INFEROXY)
    crosses = [s for s in found.shapes if isinstance(s, Line) and s.width == 1.5]
    dropped = [r for r in simulate(REFERENCE, Policy.INFEROXY).requests if r.code]
    assert dropped
    assert len(crosses) == 2 * len(dropped)
    assert {cross.colour for cross in crosses} == {COLOURS[1]}
    assert "dropped" in words(found)
    assert "dropped" not in words(drawn(REFERENCE, Policy.FIFO))


def test_policies_stand_below_one_another_with_their_figures() -> None:
    found = drawn(REFERENCE, *Policy)
    titles = [s for s in found.shapes if isinstance(s, Text) and s.text in list(Policy)]
    assert [title.text for title in titles] == ["fifo", "priority", "inferoxy"]
    assert all(a.y + 150 < b.y < found.height for a, b in pairwise(titles))
    assert "detector: 20 of 20 executed, 2 in time, p95 782 ms" in words(found)
    assert "detector: 20 of 20 executed, 20 in time, p95 49 ms" in words(found)


def test_every_worker_has_a_row() -> None:
    task = Task(service_ms=10.0, batch_size=2, instances=3, arrivals=Arrivals(every_ms=1.0, count=30))
    found = drawn(Scenario(workers=3, tasks={"a": task}), Policy.FIFO)
    assert [text for text in words(found) if text.startswith("worker")] == ["worker 1", "worker 2", "worker 3"]
    assert len({s.y for s in found.shapes if isinstance(s, Rect) and s.tip}) == 3
    assert "x2" in words(found)


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_nothing_is_drawn_outside(file: Path) -> None:
    found = drawn(scenario_file.load(file), *Policy)
    for shape in found.shapes:
        if isinstance(shape, Line):
            assert all(0 <= x <= found.width and 0 <= y <= found.height for x, y in shape.points)
        else:
            assert 0 <= shape.x <= found.width
            assert 0 <= shape.y <= found.height
            if isinstance(shape, Rect):
                assert shape.x + shape.width <= found.width - RIGHT + 1


def test_a_long_run_does_not_make_a_large_picture() -> None:
    task = Task(service_ms=0.5, latency_budget_ms=5.0, arrivals=Arrivals(every_ms=1.0, count=20_000))
    assert len(drawn(Scenario(tasks={"a": task}), Policy.INFEROXY).shapes) < 6_000


def test_nothing_that_came_is_drawn_as_nothing() -> None:
    task = Task(service_ms=5.0, timeout_ms=1.0, arrivals=Arrivals(times_ms=[0.0]))
    found = drawn(Scenario(tasks={"a": task}), Policy.INFEROXY)
    assert "a: 0 of 1 executed" in words(found)
    assert not [s for s in found.shapes if isinstance(s, Dot)]


def test_the_picture_is_svg_and_png() -> None:
    found = drawn(REFERENCE, *Policy)
    svg = ElementTree.fromstring(chart.to_svg(*found))
    kinds = [element.tag.rpartition("}")[2] for element in svg.iter()]
    assert kinds.count("circle") == sum(isinstance(s, Dot) for s in found.shapes)
    assert any(element.get("stroke-dasharray") for element in svg.iter())
    with Image.open(io.BytesIO(chart.to_png(*found))) as image:
        assert image.size == (found.width * chart.SCALE, found.height * chart.SCALE)
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20) or ()}
        for name in COLOURS[:2]:
            assert tuple(bytes.fromhex(name[1:])) in colours
