"""What the simulation plays around the dispatcher, and what the dispatcher makes of the reference scenario."""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_manager.simulation import machine, scenario_file
from batch_manager.simulation.figures import TaskFigures, figures_of, percentile
from batch_manager.simulation.machine import Outcome, simulate
from batch_manager.simulation.policies import Policy
from batch_manager.simulation.scenario import Arrivals, Scenario, Task
from inferoxy.errors import InternalError

EXAMPLES = Path(__file__).parents[2] / "examples" / "simulation"
REFERENCE = scenario_file.load(EXAMPLES / "reference.yaml")
STRICT = scenario_file.load(EXAMPLES / "strict.yaml")


def tasks_of(scenario: Scenario, policy: Policy) -> dict[str, TaskFigures]:
    return figures_of(scenario, simulate(scenario, policy)).tasks


def scenario_of(workers: int = 1, seed: int = 0, warm: bool = True, **tasks: Task) -> Scenario:
    return Scenario(workers=workers, seed=seed, warm=warm, tasks=tasks)


def at(*times_ms: float) -> Arrivals:
    return Arrivals(times_ms=list(times_ms))


def spans(outcome: Outcome, task: str = "a") -> list[tuple[float, float, int]]:
    """Begin and end of each run in ms, and its number of requests."""
    return [(run.begun_us / 1e3, run.ends_us / 1e3, len(run.requests)) for run in outcome.runs if run.task == task]


def test_the_reference_scenario_is_the_one_that_figures_are_known_of() -> None:
    detector, classifier = REFERENCE.tasks["detector"], REFERENCE.tasks["classifier"]
    assert (REFERENCE.workers, detector.priority, classifier.priority) == (1, 100, 20)
    assert (detector.service_ms, detector.latency_budget_ms, detector.queue_size) == (8.0, 80.0, 24)
    assert (classifier.service_ms, classifier.latency_budget_ms, classifier.queue_size) == (45.0, 250.0, 24)
    assert detector.arrivals == classifier.arrivals == Arrivals(every_ms=10.0, count=20)
    assert {
        name: task.model_copy(update={"protect": "budget"}) for name, task in STRICT.tasks.items()
    } == REFERENCE.tasks
    assert STRICT.tasks["detector"].protect == "strict"


def test_fifo_gives_the_detector_a_p95_of_782_ms() -> None:
    tasks = tasks_of(REFERENCE, Policy.FIFO)
    assert tasks["detector"].latency_ms["p95"] == 782.0
    assert (tasks["detector"].executed, tasks["classifier"].executed) == (20, 20)


def test_plain_priority_gives_the_detector_a_p95_of_49_ms() -> None:
    tasks = tasks_of(REFERENCE, Policy.PRIORITY)
    assert tasks["detector"].latency_ms["p95"] == 49.0
    assert tasks["detector"].executed == 20


def test_our_policy_keeps_the_detector_in_its_budget_and_serves_five_classifier_frames_in_theirs() -> None:
    tasks = tasks_of(REFERENCE, Policy.INFEROXY)
    assert tasks["detector"].executed == 20
    assert (tasks["detector"].latency_ms["p95"] or 0.0) <= 80.0
    assert (tasks["classifier"].within_budget or 0) >= 5


def test_strict_protection_keeps_the_detector_from_waiting_and_serves_four_classifier_frames() -> None:
    tasks = tasks_of(STRICT, Policy.INFEROXY)
    assert tasks["detector"].executed == 20
    assert (tasks["detector"].latency_ms["p95"] or 0.0) <= 10.0
    assert (tasks["classifier"].within_budget or 0) >= 4


def test_fifo_is_the_queue_of_the_textbook() -> None:
    """One server, order of arrival: each run begins when it has come and the one before has ended."""
    clock = st.lists(st.integers(0, 200), min_size=1, max_size=30)

    @given(clock, clock, st.integers(1, 40), st.integers(1, 40))
    @settings(max_examples=60, deadline=None)
    def check(first: list[int], second: list[int], first_ms: int, second_ms: int) -> None:
        scenario = scenario_of(
            a=Task(service_ms=float(first_ms), arrivals=at(*map(float, first))),
            b=Task(service_ms=float(second_ms), priority=7, latency_budget_ms=1.0, arrivals=at(*map(float, second))),
        )
        outcome = simulate(scenario, Policy.FIFO)
        coming = sorted([(time, 0, first_ms) for time in first] + [(time, 1, second_ms) for time in second])
        expected, end = [], 0
        for time, place, service_ms in coming:
            end = max(end, time) + service_ms
            expected.append(("ab"[place], end - service_ms, end))
        found = [(run.task, run.begun_us / 1e3, run.ends_us / 1e3) for run in outcome.runs]
        assert found == expected

    check()


TASKS = st.builds(
    Task,
    service_ms=st.floats(0.5, 60.0),
    per_item_ms=st.floats(0.0, 5.0),
    jitter=st.sampled_from([0.0, 0.3]),
    priority=st.integers(0, 3),
    latency_budget_ms=st.sampled_from([0.0, 20.0, 100.0]),
    protect=st.sampled_from(["none", "budget", "strict"]),
    batch_size=st.integers(1, 4),
    max_queue_delay_ms=st.sampled_from([0.0, 7.0]),
    instances=st.integers(1, 2),
    queue_size=st.sampled_from([2, 256]),
    drop_policy=st.sampled_from(["reject", "drop_oldest", "drop_newest"]),
    timeout_ms=st.sampled_from([40.0, 30_000.0]),
    target_fps=st.sampled_from([0.0, 30.0]),
    arrivals=st.lists(st.floats(0.0, 300.0), min_size=1, max_size=25).map(lambda times: at(*times)),
)
SCENARIOS = st.builds(
    lambda workers, seed, hop_ms, tasks: Scenario(
        workers=workers, seed=seed, hop_ms=hop_ms, tasks=dict(zip("abc", tasks, strict=False))
    ),
    st.integers(1, 3),
    st.integers(0, 3),
    st.sampled_from([0.0, 0.0, 0.7]),
    st.lists(TASKS, min_size=1, max_size=3),
)


@given(SCENARIOS, st.sampled_from(Policy))
@settings(max_examples=150, deadline=None)
def test_whatever_comes_every_request_is_answered_once_and_no_worker_does_two_things_at_a_time(
    scenario: Scenario, policy: Policy
) -> None:
    outcome = simulate(scenario, policy)
    for request in outcome.requests:
        assert request.answered_us is not None
        assert request.answered_us >= request.arrived_us
        assert bool(request.code) == bool(request.reason) == bool(request.error)
        if not request.code:
            assert request.began_us is not None
    run_of = Counter(number for run in outcome.runs for number in run.requests)
    assert set(run_of.values()) <= {1}
    assert {r.id for r in outcome.requests if r.began_us is not None} == set(run_of)
    ends = sorted([(run.begun_us, 1) for run in outcome.runs] + [(run.ends_us, -1) for run in outcome.runs])
    working = 0
    for _, step in ends:
        working += step
        assert working <= scenario.workers, "more batches ran at a time than there are workers"
    for name in {run.instance for run in outcome.runs}:
        mine = [run for run in outcome.runs if run.instance == name]
        assert all(earlier.ends_us <= later.begun_us for earlier, later in pairwise(mine))
    for run in outcome.runs:
        task = scenario.tasks[run.task]
        assert 1 <= len(run.requests) <= task.batch_size
        service_ms = task.service_ms + task.per_item_ms * (len(run.requests) - 1)
        assert abs((run.ends_us - run.begun_us) / 1e3 - service_ms) <= task.jitter * service_ms + 0.001


@given(SCENARIOS, st.sampled_from(Policy), st.integers(1, 299))
@settings(max_examples=100, deadline=None)
def test_nothing_is_known_before_it_arrives(scenario: Scenario, policy: Policy, until_ms: int) -> None:
    """What has happened up to some instant is the same if nothing comes afterwards."""
    seen: dict[str, list[Any]] = {}
    past = {}
    for name, task in scenario.tasks.items():
        times = [time for time in task.arrivals.times_ms or [] if round(time * 1e3) < until_ms * 1000]
        if times:
            past[name] = task.model_copy(update={"arrivals": at(*times)})
    for case, tasks in (("whole", scenario.tasks), ("past", past)):
        events: list[dict[str, Any]] = []
        present = {**scenario.tasks, **tasks}
        # Tasks of which nothing has come yet are there all the same, with a request far in the future.
        absent = set(scenario.tasks) - set(tasks)
        later = {name: present[name].model_copy(update={"arrivals": at(1e6)}) for name in absent}
        simulate(scenario.model_copy(update={"tasks": present | later}), policy, events.append)
        seen[case] = [event for event in events if event["at_s"] * 1e3 < until_ms]
    assert seen["past"] == seen["whole"]


def test_equal_seeds_give_equal_outcomes_and_others_do_not() -> None:
    scenario = scenario_file.load(EXAMPLES / "cameras.yaml")
    first, again = (simulate(scenario, Policy.INFEROXY) for _ in range(2))
    assert first == again
    assert simulate(scenario.model_copy(update={"seed": 8}), Policy.INFEROXY) != first


def test_a_task_s_requests_of_one_instant_come_together_and_fill_batches() -> None:
    burst = Task(service_ms=10.0, per_item_ms=2.0, batch_size=4, arrivals=at(0, 0, 0, 0, 0, 0))
    outcome = simulate(scenario_of(a=burst), Policy.FIFO)
    assert spans(outcome) == [(0.0, 16.0, 4), (16.0, 28.0, 2)]
    assert [request.latency_ms for request in outcome.requests] == [16.0] * 4 + [28.0] * 2


def test_a_partial_batch_waits_for_the_queue_delay() -> None:
    slow = Task(service_ms=10.0, batch_size=4, max_queue_delay_ms=5.0, arrivals=at(0, 3, 40))
    assert spans(simulate(scenario_of(a=slow), Policy.INFEROXY)) == [(5.0, 15.0, 2), (45.0, 55.0, 1)]


def test_several_instances_work_at_a_time_on_several_workers() -> None:
    task = Task(service_ms=10.0, instances=2, arrivals=at(0, 1, 2))
    assert spans(simulate(scenario_of(2, a=task), Policy.FIFO)) == [(0.0, 10.0, 1), (1.0, 11.0, 1), (10.0, 20.0, 1)]
    assert spans(simulate(scenario_of(1, a=task), Policy.FIFO)) == [(0.0, 10.0, 1), (10.0, 20.0, 1), (20.0, 30.0, 1)]


def test_what_does_not_fit_into_the_queue_is_counted_under_its_bound() -> None:
    task = Task(service_ms=10.0, queue_size=2, arrivals=Arrivals(every_ms=1.0, count=9))
    figures = tasks_of(scenario_of(a=task), Policy.PRIORITY)["a"]
    assert figures.dropped == {"queue_size": figures.arrived - figures.executed}
    assert figures.executed >= 3


def test_a_request_that_expires_while_it_runs_is_dropped_at_its_deadline_and_its_run_goes_on() -> None:
    outcome = simulate(scenario_of(a=Task(service_ms=50.0, timeout_ms=30.0, arrivals=at(0))), Policy.INFEROXY)
    (request,) = outcome.requests
    assert (request.code, request.reason, request.latency_ms) == ("DEADLINE_EXCEEDED", "deadline", 30.0)
    assert spans(outcome) == [(0.0, 50.0, 1)]


def test_what_expires_while_it_waits_at_an_instance_is_not_run() -> None:
    """With batches of one a busy instance holds the next one already."""
    task = Task(service_ms=50.0, timeout_ms=30.0, arrivals=at(0, 1, 45))
    outcome = simulate(scenario_of(a=task), Policy.INFEROXY)
    assert [request.reason for request in outcome.requests] == ["deadline"] * 3
    assert spans(outcome) == [(0.0, 50.0, 1), (50.0, 100.0, 1)]


def test_messages_take_their_time() -> None:
    """To the core, to the instance, work, back to the core, back to the client; two ways between two runs."""
    scenario = scenario_of(a=Task(service_ms=10.0, arrivals=at(0)), b=Task(service_ms=10.0, arrivals=at(0)))
    outcome = simulate(scenario.model_copy(update={"hop_ms": 0.5}), Policy.FIFO)
    assert (spans(outcome, "a"), spans(outcome, "b")) == ([(1.0, 11.0, 1)], [(12.0, 22.0, 1)])
    assert [request.latency_ms for request in outcome.requests] == [12.0, 23.0]


def test_a_day_without_requests_between_two_loses_nothing() -> None:
    outcome = simulate(scenario_of(a=Task(service_ms=1.0, arrivals=at(0, 3_600_000.0))), Policy.INFEROXY)
    assert spans(outcome) == [(0.0, 1.0, 1), (3_600_000.0, 3_600_001.0, 1)]


def test_cold_instances_have_not_said_how_long_a_batch_takes() -> None:
    """Unknown work is not held back for a strictly protected stream; known work is."""

    def first_low_run(warm: bool) -> float:
        scenario = scenario_of(
            warm=warm,
            high=Task(service_ms=2.0, protect="strict", arrivals=Arrivals(every_ms=10.0, count=20)),
            low=Task(service_ms=30.0, priority=1, arrivals=at(52.5)),
        )
        return spans(simulate(scenario, Policy.INFEROXY), "low")[0][0]

    assert first_low_run(warm=False) == 52.5
    assert first_low_run(warm=True) >= 192.0


def test_every_decision_is_told_in_order() -> None:
    events: list[dict[str, Any]] = []
    outcome = simulate(REFERENCE, Policy.INFEROXY, events.append)
    assert {event["policy"] for event in events} == {"inferoxy"}
    assert [event["at_s"] for event in events] == sorted(event["at_s"] for event in events)
    of_kind = Counter(event["event"] for event in events)
    dropped = sum(1 for request in outcome.requests if request.code)
    assert of_kind == {"enqueued": 40, "dispatched": 40 - dropped, "executed": 40 - dropped, "shed": dropped}
    latencies = {e["request_id"]: e["latency_ms"] for e in events if e["event"] == "executed"}
    assert latencies == {r.request_id: pytest.approx(r.latency_ms, abs=1e-3) for r in outcome.requests if not r.code}


def test_an_instance_that_is_turned_away_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "spec_of", lambda name, task, policy: machine.m.ModelSpec(name="other", address="x"))
    with pytest.raises(InternalError, match="turned instance a-0 away"):
        simulate(scenario_of(a=Task(service_ms=1.0, arrivals=at(0))), Policy.FIFO)


def test_percentiles_are_of_the_nearest_rank() -> None:
    values = [float(number) for number in range(1, 21)]
    assert [percentile(values, percent) for percent in (1, 5, 50, 95, 99, 100)] == [1.0, 1.0, 10.0, 19.0, 20.0, 20.0]
    assert percentile([7.0], 50) == 7.0
    assert percentile([], 50) is None


@given(st.lists(st.integers(0, 1000), min_size=1), st.integers(1, 100))
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(numbers: list[int], percent: int) -> None:
    values = sorted(map(float, numbers))
    found = percentile(values, percent)
    assert found is not None
    assert 100 * sum(value <= found for value in values) >= percent * len(values)
    assert all(100 * sum(v <= value for v in values) < percent * len(values) for value in values if value < found)


def test_figures_count_what_happened() -> None:
    task = Task(service_ms=10.0, latency_budget_ms=25.0, queue_size=2, arrivals=at(0, 0, 0, 0))
    other = Task(service_ms=40.0, priority=1, arrivals=at(100))
    scenario = scenario_of(2, a=task, b=other)
    figures = figures_of(scenario, simulate(scenario, Policy.FIFO))
    assert (figures.tasks["a"].arrived, figures.tasks["a"].executed, figures.tasks["a"].within_budget) == (4, 4, 2)
    assert figures.tasks["a"].latency_ms == {"p50": 20.0, "p95": 40.0, "p99": 40.0, "max": 40.0}
    assert figures.tasks["b"].within_budget is None
    assert (figures.tasks["a"].batches, figures.tasks["a"].mean_batch, figures.end_ms) == (4, 1.0, 140.0)
    assert figures.tasks["a"].device_share == pytest.approx(40 / 280)
    assert figures.device_use == pytest.approx(80 / 280)
