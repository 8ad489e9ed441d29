"""`inferoxy simulate` as people run it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "simulation"
REFERENCE = EXAMPLES / "reference.yaml"


def simulate(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    known = {k: v for k, v in os.environ.items() if not k.startswith("INFEROXY_")} | {"PYTHONHASHSEED": "random"}
    command = [sys.executable, "-m", "inferoxy", "simulate", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90.0, check=False, env=known)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def rows(shown: str) -> list[list[str]]:
    """The cells of all tables' bodies."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines() if line.startswith("│")]


def test_it_shows_a_table_for_each_policy() -> None:
    done = simulate(REFERENCE)
    assert (done.returncode, done.stderr) == (0, "")
    titles = [line.strip() for line in done.stdout.splitlines() if ": 1 worker, busy " in line]
    assert titles[0] == "fifo: 1 worker, busy 100.0% of 1,060.0 ms"
    assert [title.split(":")[0] for title in titles] == ["fifo", "priority", "inferoxy"]
    cells = rows(done.stdout)
    assert cells[0] == ["detector", "20", "20", "2", "", "395", "782", "825", "1.0", "15.1%"]
    assert cells[2][:7] == ["detector", "20", "20", "20", "", "31", "49"]
    assert [row[0] for row in cells] == ["detector", "classifier"] * 3
    assert cells[5][4] == str(20 - int(cells[5][2]))
    assert f"dropped: classifier: {cells[5][4]} latency_budget_ms" in [
        line.strip() for line in done.stdout.splitlines()
    ]


def test_json_has_the_same_figures_and_nothing_else_is_printed() -> None:
    done = simulate(REFERENCE, "--json", "-", "--policy", "inferoxy", "--policy", "fifo")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert list(found["policies"]) == ["inferoxy", "fifo"]
    assert found["policies"]["fifo"]["tasks"]["detector"]["latency_ms"]["p95"] == 782.0
    assert found["policies"]["fifo"]["device_use"] == pytest.approx(1.0)
    classifier = found["policies"]["inferoxy"]["tasks"]["classifier"]
    assert classifier["executed"] + sum(classifier["dropped"].values()) == classifier["arrived"] == 20
    assert found["scenario"]["tasks"]["classifier"]["arrivals"] == {"every_ms": 10.0, "count": 20}


def test_files_are_written_where_they_are_wanted(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("figures.json", "events.jsonl", "picture.svg")]
    done = simulate(REFERENCE, "--json", files[0], "--events", files[1], "--plot", files[2])
    assert (done.returncode, done.stderr) == (0, "")
    for file in files:
        assert f"written: {file}" in done.stdout.splitlines()
    assert list(json.loads(files[0].read_text())["policies"]) == ["fifo", "priority", "inferoxy"]
    events = [json.loads(line) for line in files[1].read_text().splitlines()]
    assert {event["policy"] for event in events} == {"fifo", "priority", "inferoxy"}
    assert {event["event"] for event in events} == {"enqueued", "dispatched", "executed", "dropped", "shed"}
    assert files[2].read_text().startswith("<svg")


@pytest.mark.parametrize(("suffix", "head"), [(".png", b"\x89PNG"), (".html", b"<!doctype html>")])
def test_a_picture_may_be_a_png_or_a_page(tmp_path: Path, suffix: str, head: bytes) -> None:
    file = tmp_path / f"picture{suffix}"
    assert simulate(REFERENCE, "--plot", file).returncode == 0
    content = file.read_bytes()
    assert content.startswith(head)
    if suffix == ".html":
        assert b"<td>fifo</td><td>detector</td><td>20</td>" in content
        assert b"<svg" in content


def test_chance_is_the_same_in_every_process_and_another_with_another_seed() -> None:
    cameras = EXAMPLES / "cameras.yaml"
    first, again, other = (simulate(cameras, "--json", "-", *more).stdout for more in ((), (), ("--seed", "8")))
    assert first == again
    figures = [json.loads(text)["policies"]["fifo"] for text in (first, other)]
    assert figures[0] != figures[1]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["absent.yaml"], "error: absent.yaml: cannot be read: No such file or directory"),
        ([REFERENCE, "--policy", "best"], "best"),
        ([REFERENCE, "--plot", "picture.pdf"], "error: plot: expected a file name ending in .html, .svg, .png"),
        ([REFERENCE, "--json", "/no/such/folder/x.json"], "error: /no/such/folder/x.json: there is no folder"),
        ([REFERENCE, "--seed", "-1"], "--seed"),
    ],
)
def test_wrong_input_ends_with_2_and_one_reason(arguments: list[str | Path], why: str) -> None:
    done = simulate(*arguments)
    assert done.returncode == 2
    assert why in done.stderr
    assert done.stdout == ""


def test_a_wrong_scenario_ends_with_2_and_every_problem_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "scenario.yaml"
    file.write_text("workers: none\ntasks:\n  a: {service_ms: 1, arrivals: {every_ms: 10}, prority: 3}\n")
    done = simulate(file)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f'error: {file}:1: workers: expected an integer of 1 to 1000, found "none"',
        f"error: {file}:3: tasks.a.prority: unknown key, did you mean priority?",
    ]


def test_a_file_that_cannot_be_written_ends_with_1(tmp_path: Path) -> None:
    done = simulate(REFERENCE, "--policy", "fifo", "--events", tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path}: cannot be written: Is a directory\n"
