"""The suite's medians, what holds of them, and the tables."""

from pathlib import Path
from typing import Any

import pytest

from inferoxy.bench.suite import profiles, tables, verdict
from inferoxy.bench.suite.measure import expected
from inferoxy.bench.suite.readings import Reading
from inferoxy.bench.suite.workloads import IDEAL_SLEEPER, W1, W2, W3, W4, WORKLOADS, Check, Workload, models_yaml
from model_manager import models_yaml as registered


def reading(probe: str, rate: float, p50_ms: float = 1.0, **fields: Any) -> Reading:
    return Reading(probe=probe, round=0, generator="g", requests_per_s=rate, p50_ms=p50_ms, p99_ms=2.0, **fields)


def rounds_of(*rounds: dict[str, tuple[float, float]], others: float = 0.0) -> list[dict[str, Reading]]:
    return [{key: reading(key, *figures, others=others) for key, figures in one.items()} for one in rounds]


def only(check: Check, rounds: list[dict[str, Reading]], wanted: int = 3) -> verdict.Judged:
    (judged,) = verdict.judge(W1._replace(checks=(check,)), rounds, wanted)
    return judged


RATIO = Check("text", "{:.2f} of C", "rate_ratio", "ours", ("c",), least=0.85)


def test_a_ratio_is_taken_within_each_round_and_its_median_judged() -> None:
    rounds = rounds_of(
        {"ours": (90, 1), "c": (100, 1)}, {"ours": (40, 1), "c": (50, 1)}, {"ours": (270, 1), "c": (300, 1)}
    )
    judged = only(RATIO, rounds)
    assert (judged.value, judged.low, judged.high) == (0.9, 0.8, 0.9)
    assert judged.holds
    assert judged.short == "0.90 of C"
    assert not only(RATIO._replace(least=0.91), rounds).holds


def test_the_best_of_several_ceilings_counts() -> None:
    rounds = rounds_of({"ours": (90, 7), "a": (100, 5), "b": (120, 6)})
    assert only(RATIO._replace(ceilings=("a", "b")), rounds).value == 0.75
    slower = Check("", "{}", "p50_added_ms", "ours", ("a", "b"), most=2.0)
    judged = only(slower, rounds)
    assert (judged.value, judged.holds) == (2.0, True)


@pytest.mark.parametrize(
    ("figure", "value"), [("p50_ratio", 3.5), ("p50_ms", 7.0), ("of_ideal", 90 / IDEAL_SLEEPER), ("p50_added_ms", 5.0)]
)
def test_figures_are_what_their_names_say(figure: Any, value: float) -> None:
    check = Check("", "{}", figure, "ours", ("a",), most=10.0)
    assert only(check, rounds_of({"ours": (90, 7), "a": (100, 2)})).value == pytest.approx(value)


def test_the_quietest_rounds_count_where_there_are_more_than_wanted() -> None:
    quiet = rounds_of({"ours": (90, 1), "c": (100, 1)}) * 3
    noisy = rounds_of({"ours": (10, 1), "c": (100, 1)}, others=0.4)
    judged = only(RATIO, noisy + quiet)
    assert (judged.low, judged.high, judged.is_noisy) == (0.9, 0.9, False)
    assert only(RATIO, noisy + quiet, wanted=4).is_noisy
    workload = W1._replace(checks=(RATIO,))
    assert verdict.needs_another(workload, noisy + quiet[:2], 3)
    assert not verdict.needs_another(workload, noisy + quiet, 3)


def test_what_could_not_be_measured_does_not_hold() -> None:
    judged = only(RATIO, rounds_of({"ours": (90, 1)}))
    assert (judged.value, judged.holds, judged.short) == (None, False, "not measured")


def all_rounds(workload: Workload) -> list[dict[str, Reading]]:
    figures = {probe.key: (100.0, 0.5) for probe in workload.probes}
    return rounds_of(figures, figures, figures)


def test_the_last_line_names_every_workload_and_counts_what_holds() -> None:
    judged = {workload.name: verdict.judge(workload, all_rounds(workload), 3) for workload in WORKLOADS}
    assert verdict.last_line(judged) == (
        "bench: W1 ZeroMQ 1.00 of echo, p50 1.0x echo, REST p50 0.50 ms; W2 1.00 of C; W3 0.036, 0.036 of ideal; "
        "W4 1.00 of loop, +0.0 ms: 6 of 8 hold"
    )


def test_checks_name_probes_that_are_measured() -> None:
    for workload in WORKLOADS:
        keys = [probe.key for probe in workload.probes]
        assert len(set(keys)) == len(keys)
        for check in workload.checks:
            assert {check.ours, *check.ceilings} <= set(keys)
            assert (check.least is None) != (check.most is None)
    assert round(IDEAL_SLEEPER) == 2_807


def test_the_models_of_the_workloads_can_be_registered() -> None:
    for workload in WORKLOADS:
        (spec,) = registered.parse(models_yaml(workload).encode(), workload.artifact.parent)
        assert (spec.name, spec.batch_size, spec.instances.min) == (workload.model, workload.batch_size, 1)


def test_right_answers_are_known_before_anything_is_measured() -> None:
    assert len(expected(W1)["OUTPUT0"]) == 16
    means = expected(W2)["OUTPUT0"]
    assert len(means) == 3
    assert all(90 < mean < 165 for mean in means)
    assert expected(W3) == expected(W1)
    assert expected(W4) == {}


def test_the_report_has_every_reading_with_its_spread_and_marks_disturbed_ones() -> None:
    rounds = rounds_of(
        {"rest_c8": (2_000, 4), "c_c8": (4_000, 1)}, {"rest_c8": (2_200, 4), "c_c8": (4_000, 1)}, others=0.2
    )
    rounds[0]["rest_c8"].cpu_us = {"bridge_rest": 200.4}
    judged = verdict.judge(W2, rounds, 3)
    text = tables.markdown({"cores": 2}, {"W2": (W2, rounds, judged)}, "bench: x")
    assert "| ~REST, 8 connections | 2,100 (2,000–2,200) | 4 | 2 |  |  | 200 |" in text
    assert "| REST at least 0.85 of the C server, 8 connections | ~0.525 | 0.5 to 0.55 | **no** |" in text
    assert "not measured: no C compiler" in text  # the probes that are missing from these rounds
    assert text.rstrip().endswith("`bench: x`")


def test_hot_lines_of_a_recording_count_a_place_once_for_each_sample() -> None:
    root = Path(profiles.__file__).parents[3]
    recording = {
        "shared": {
            "frames": [
                {"name": "loop", "file": "/x/site-packages/a/b.py", "line": 3},
                {"name": "send", "file": f"{root}/inferoxy/sockets.py", "line": 9},
                {"name": "run", "file": f"{root}/bridges/serving.py", "line": 1},
            ]
        },
        "profiles": [{"samples": [[2, 0], [2, 0, 1], [2, 0, 0, 1, 1], []]}, {"samples": [[2, 0, 1]]}],
    }
    alone, below = profiles.hot_lines(recording)
    assert alone == [("send inferoxy/sockets.py:9", 0.75), ("loop a/b.py:3", 0.25)]
    assert below == [("send inferoxy/sockets.py:9", 0.75)]
    assert profiles.hot_lines({"shared": {"frames": []}, "profiles": []}) == ([], [])
