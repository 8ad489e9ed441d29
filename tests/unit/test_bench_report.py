"""What is shown of a load: notes, table, document and chart."""

import json
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from inferoxy.bench import chart, plot, report
from inferoxy.bench.histogram import Histogram
from inferoxy.bench.plan import Plan
from inferoxy.bench.runner import Outcome
from inferoxy.bench.samples import Samples
from inferoxy.client.results import Served
from inferoxy.errors import InvalidRequest

PLAN = Plan(url="http://h:1", model="<scale>", tensors=["X:FP32:1x2"])


def outcome(latencies_s: list[float], **fields: Any) -> Outcome:
    latency, samples = Histogram(), Samples()
    latency.add(latencies_s)
    samples.take(Served(queue_ms=2.0, compute_ms=4.0, batch_size=8))
    given_fields: dict[str, Any] = {
        "slots": 16, "rate": 0.0, "processes": 1, "duration_s": 2.0, "completed": len(latencies_s), "waited": 0,
        "failures": {}, "latency": latency, "lateness": Histogram(), "samples": samples, "cpu_shares": [0.1],
    }  # fmt: skip
    return Outcome(**given_fields | fields)


CLOSED = outcome([0.010, 0.010, 0.020, 0.1234])
OPEN = outcome([0.001] * 100, rate=50.0, slots=256)


def text_of(shown: Any) -> str:
    console = Console(width=160)
    with console.capture() as captured:
        console.print(shown)
    return captured.get()


def test_the_table_has_a_row_for_each_level() -> None:
    shown = text_of(report.table([CLOSED, OPEN]))
    rows = [line.split("│") for line in shown.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row[1:-1]] for row in rows] == [
        ["c=16", "2.0", "", "10.0", "123", "123", "123", "123", "8.0", "2.00", "4.00"],
        ["50/s", "50.0", "", "1.00", "1.00", "1.00", "1.00", "1.00", "8.0", "2.00", "4.00"],
    ]


def test_notes_say_how_latency_was_measured_for_the_loops_that_were_run() -> None:
    assert report.notes([CLOSED])[0] == report.CLOSED
    assert report.notes([OPEN])[0] == report.OPEN
    assert "corrected for coordinated omission" in report.OPEN
    assert report.notes([CLOSED, OPEN])[:2] == [report.OPEN, report.CLOSED]


def test_notes_tell_what_is_wrong_with_the_figures() -> None:
    late = Histogram()
    late.add([0.004])
    bad = outcome(
        [0.001], rate=50.0, failures={"QUEUE_FULL": 3, "SHED": 1}, cpu_shares=[0.97], lateness=late, waited=7,
        problems=["another answer"],
    )  # fmt: skip
    told = "\n".join(report.notes([bad]))
    assert "50/s: WRONG ANSWERS: another answer" in told
    assert "4 requests failed: QUEUE_FULL 3, SHED 1" in told
    assert "answered only 0 requests/s" in told
    assert "97% of a core" in told
    assert "--processes 2" in told
    assert "4.0 ms late itself" in told
    assert "7 requests waited for one of 16 connections" in told


def test_the_document_holds_everything_as_json() -> None:
    found = json.loads(json.dumps(report.document(PLAN, [CLOSED, OPEN])))
    assert (found["model"], found["url"], found["sent"]) == ("<scale>", "http://h:1", "synthetic X:FP32:1x2")
    closed, opened = found["levels"]
    assert (closed["level"], closed["loop"], closed["connections"], closed["requests_per_s"]) == (
        "c=16",
        "closed",
        16,
        2.0,
    )
    assert closed["latency_ms"] | {"corrected": False} == closed["latency_ms"]
    assert closed["latency_ms"]["p50"] == pytest.approx(10, rel=0.006)
    assert closed["latency_ms"]["max"] == 123.4
    assert closed["served"]["mean_batch"] == 8.0
    assert opened["latency_ms"]["corrected"] is True
    assert opened["rate_wanted"] == 50.0


def test_an_svg_has_a_curve_for_each_percentile_and_a_point_for_each_level() -> None:
    svg = ElementTree.fromstring(plot.to_svg(plot.shapes_of([CLOSED, OPEN])))
    kinds = [element.tag.rpartition("}")[2] for element in svg.iter()]
    assert kinds.count("circle") == 4 * 2
    texts = {element.text for element in svg.iter() if element.tag.endswith("}text")}
    assert {"p50", "p90", "p99", "p99.9", "requests answered per second", "latency in milliseconds"} <= texts
    tips = [element.text for element in svg.iter() if element.tag.endswith("}title")]
    assert "50/s: p50 1.00 ms at 50 requests/s" in tips


def test_a_page_needs_nothing_from_elsewhere_and_shows_names_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "plot.html"
    plot.write(file, PLAN, [CLOSED, OPEN])
    page = file.read_text()
    assert "<scale>" not in page
    assert "&lt;scale&gt;" in page
    for outside in ("<script", "<link", "<img", "src=", "url("):
        assert outside not in page
    assert "<td>c=16</td>" in page


def test_a_png_is_a_picture(tmp_path: Path) -> None:
    file = tmp_path / "plot.png"
    plot.write(file, PLAN, [CLOSED, OPEN])
    with Image.open(file) as picture:
        assert picture.size == (chart.WIDTH * plot.SCALE, chart.HEIGHT * plot.SCALE)
        assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 10


def test_nothing_answered_is_said_in_the_chart() -> None:
    assert "nothing was answered" in plot.to_svg(plot.shapes_of([outcome([])]))


def test_other_files_are_no_plots() -> None:
    with pytest.raises(InvalidRequest, match=r"plot: expected a file name ending in .html, .svg, .png, found x.pdf"):
        plot.check_name(Path("x.pdf"))


@given(st.floats(1e-3, 1e7))
def test_linear_ticks_reach_the_highest_value_in_few_round_steps(highest: float) -> None:
    ticks = chart.linear_ticks(highest)
    assert ticks[0] == 0
    assert highest <= ticks[-1] * (1 + 1e-6)
    assert 2 <= len(ticks) <= 10


@given(st.floats(1e-4, 1e6), st.floats(1.0, 1e5))
def test_logarithmic_ticks_enclose_all_values(lowest: float, span: float) -> None:
    ticks = chart.log_ticks(lowest, lowest * span)
    assert ticks[0] <= lowest * (1 + 1e-6)
    assert lowest * span <= ticks[-1]
    assert ticks == sorted(set(ticks))


def test_names_at_the_ends_of_curves_do_not_cover_each_other() -> None:
    curves = [chart.Curve(f"c{number}", [(1.0, 5.0, ""), (2.0, 5.0 + number / 1e3, "")]) for number in range(4)]
    names = [s for s in chart.draw(curves, "x", "y") if isinstance(s, chart.Text) and s.bold]
    heights = sorted(name.y for name in names)
    assert all(b - a >= chart.LABEL_GAP - 1e-6 for a, b in pairwise(heights))
