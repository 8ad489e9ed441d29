"""What a scenario may say, and when its requests come."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_manager.simulation import scenario_file
from batch_manager.simulation.arrivals import arrivals_of
from batch_manager.simulation.policies import Policy, spec_of
from batch_manager.simulation.scenario import MAX_REQUESTS, Arrivals, Bursts, Poisson, Task
from inferoxy.errors import ConfigError
from inferoxy.messages import ModelSpec
from model_manager.spec import SpecFields

EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "simulation").glob("*.yaml"))
FORMS = "every_ms, poisson, bursts, times_ms"
EVEN = "arrivals: {every_ms: 10, count: 20}"


def problems_of(text: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        scenario_file.parse(text.encode())
    return refused.value.message.splitlines()


def test_a_scenario_is_read_as_it_is_written() -> None:
    scenario = scenario_file.parse(
        b"""
        workers: 2
        seed: 5
        warm: false
        tasks:
          a: {service_ms: 8, arrivals: {every_ms: 10, count: 20, offset_ms: 3, jitter_ms: 1}}
          on: {service_ms: 0.5, batch_size: 4, per_item_ms: 1, jitter: 0.2, priority: 7, protect: strict, slots: 2,
               latency_budget_ms: 80, queue_size: 24, drop_policy: drop_oldest, timeout_ms: 500, target_fps: 25,
               max_queue_delay_ms: 2, instances: 3, queue_mib: 9, arrivals: {poisson: {rate_per_s: 50, duration_s: 2}}}
        """
    )
    assert (scenario.workers, scenario.seed, scenario.warm, list(scenario.tasks)) == (2, 5, False, ["a", "on"])
    assert scenario.tasks["a"] == Task(
        service_ms=8.0, arrivals=Arrivals(every_ms=10.0, count=20, offset_ms=3.0, jitter_ms=1.0)
    )
    other = scenario.tasks["on"]
    assert (other.batch_size, other.per_item_ms, other.jitter, other.instances, other.slots) == (4, 1.0, 0.2, 3, 2)
    assert other.arrivals.poisson == Poisson(rate_per_s=50.0, duration_s=2.0)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_are_valid(file: Path) -> None:
    assert scenario_file.load(file).tasks


def test_keys_that_models_have_too_have_the_same_defaults() -> None:
    shared = set(Task.model_fields) & set(SpecFields.model_fields) - {"instances"}
    assert len(shared) == 11
    for name in shared:
        assert Task.model_fields[name].default == SpecFields.model_fields[name].default, name


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "1: expected a mapping with tasks, found nothing"),
        ("- 1", "1: expected a mapping with tasks, found a list"),
        ("workers: 1", "1: tasks: expected a mapping of names to tasks, found nothing"),
        ("tasks: {}", "1: tasks: expected at least one task, found none"),
        ("tasks: [1", "1: not valid YAML: while parsing a flow sequence"),
        ("tasks:\n  a: 3", "2: tasks.a: expected a mapping with service_ms and arrivals, found 3"),
        ("\nworkers: 0", "2: workers: expected an integer of 1 to 1000, found 0"),
        ("\n\nworker: 2", "3: worker: unknown key, did you mean workers?"),
        ("seed: -1", "1: seed: expected an integer of at least 0, found -1"),
        ("warm: 1", "1: warm: expected true or false, found 1"),
        (f"tasks: {{a b: {{service_ms: 1, {EVEN}}}}}", "1: tasks.a b: expected a name of letters, digits, dots"),
        ("tasks:\n  a: 1\n  a: 2", "3: tasks.a: expected once, found again (first in line 2)"),
        ("tasks: &t\n  a: *t", "2: tasks.a: expected a value, found one that contains itself"),
    ],
)
def test_a_wrong_scenario_is_refused_with_line_key_expected_and_found(text: str, problem: str) -> None:
    assert any(line.startswith(f"scenario.yaml:{problem}") for line in problems_of(text)), problems_of(text)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        (EVEN, "service_ms: expected a number of 0.001 to 1e9, found nothing"),
        (f"service_ms: yes, {EVEN}", "service_ms: expected a number of 0.001 to 1e9, found true"),
        (f"service_ms: .nan, {EVEN}", "service_ms: expected a number of 0.001 to 1e9, found NaN"),
        (f"service_ms: -1, {EVEN}", "service_ms: expected a number of 0.001 to 1e9, found -1"),
        (f"service_ms: 1, jitter: 1, {EVEN}", "jitter: expected a number of at least 0 and below 1, found 1"),
        (f"service_ms: 1, protect: all, {EVEN}", 'protect: expected none, budget or strict, found "all"'),
        (f"service_ms: 1, slotz: 1, {EVEN}", "slotz: unknown key, did you mean slots?"),
        (f"service_ms: 1, service_ms: 2, {EVEN}", "service_ms: expected once, found again (first in line 2)"),
        ("service_ms: 1", "arrivals: expected a mapping such as {every_ms: 10, count: 20}, found nothing"),
    ],
)
def test_a_wrong_task_is_refused_with_its_line(fields: str, problem: str) -> None:
    assert f"scenario.yaml:2: tasks.a.{problem}" in problems_of(f"tasks:\n  a: {{{fields}}}\n")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ("", f": expected one of {FORMS}, found none"),
        ("times_ms: [1], every_ms: 1, count: 1", f": expected one of {FORMS}, found every_ms and times_ms"),
        ("every_ms: 1", ".count: expected with every_ms (how many requests), found nothing"),
        ("every_ms: 0, count: 1", ".every_ms: expected a number of 0.001 to 1e9, found 0"),
        ("times_ms: [1], count: 2", ".count: expected only with every_ms, found it with times_ms"),
        ("times_ms: []", ".times_ms: expected at least one number, found an empty list"),
        ("times_ms: [1, x]", '.times_ms: expected a list of numbers of at least 0, found "x"'),
        ("bursts: 3", ".bursts: expected a mapping such as {every_ms: 500, size: 8, count: 10}, found 3"),
        ("poisson: {rate_per_s: 9}", ".poisson.duration_s: expected a number of 0.001 to 1e9, found nothing"),
        ("poisson: {rate: 9, duration_s: 1}", ".poisson.rate: unknown key, did you mean rate_per_s?"),
    ],
)  # fmt: skip
def test_wrong_arrivals_are_refused_with_their_line(fields: str, problem: str) -> None:
    text = f"tasks:\n  a:\n    service_ms: 1\n    arrivals: {{{fields}}}\n"
    assert f"scenario.yaml:4: tasks.a.arrivals{problem}" in problems_of(text)


def test_more_requests_than_can_be_waited_for_are_refused() -> None:
    stream = "{service_ms: 1, arrivals: {poisson: {rate_per_s: 1000, duration_s: 500}}}"
    assert MAX_REQUESTS == 1_000_000
    scenario_file.parse(f"tasks:\n  a: {stream}\n  b: {stream}\n".encode())
    told = problems_of(f"tasks:\n  a: {stream}\n  b: {stream}\n  c: {{service_ms: 1, {EVEN}}}\n")
    assert told == ["scenario.yaml:1: tasks: expected at most 1,000,000 requests in all, found 1,000,020"]


def test_every_problem_is_told_at_once_in_the_order_of_lines() -> None:
    told = problems_of("workers: 0\ntasks:\n  a: {service_ms: 0, arrivals: 3}\n  b: {service_ms: x, arrivals: {}}\n")
    assert [line.split(":")[1] for line in told] == ["1", "3", "3", "4"]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent.yaml: cannot be read: No such file"):
        scenario_file.load(tmp_path / "absent.yaml")


def test_what_tasks_have_in_common_can_be_merged() -> None:
    text = f"tasks:\n  a: &a {{service_ms: 1, priority: 3, {EVEN}}}\n  b: {{<<: *a, priority: 4}}\n"
    tasks = scenario_file.parse(text.encode()).tasks
    assert (tasks["b"].service_ms, tasks["a"].priority, tasks["b"].priority) == (1.0, 3, 4)


def times_ms(arrivals: Arrivals, seed: int = 0, name: str = "a") -> list[float]:
    return [a.at_us / 1e3 for a in arrivals_of(name, Task(service_ms=1.0, arrivals=arrivals), seed)]


def test_even_arrivals_keep_their_distance() -> None:
    assert times_ms(Arrivals(every_ms=10.0, count=3, offset_ms=5.0)) == [5.0, 15.0, 25.0]


def test_bursts_come_together() -> None:
    assert times_ms(Arrivals(bursts=Bursts(every_ms=100.0, size=2, count=2))) == [0.0, 0.0, 100.0, 100.0]


def test_listed_times_are_put_in_order() -> None:
    assert times_ms(Arrivals(times_ms=[7.0, 0.25, 7.0])) == [0.25, 7.0, 7.0]


@given(st.integers(0, 10_000))
def test_jitter_makes_requests_late_but_never_early_and_keeps_them_in_order(seed: int) -> None:
    found = times_ms(Arrivals(every_ms=10.0, count=20, jitter_ms=25.0), seed)
    assert found == sorted(found)
    assert all(at >= 10.0 * number for number, at in enumerate(found))
    assert found[-1] <= 190.0 + 25.0


def test_a_poisson_stream_has_the_rate_that_was_asked_for_and_gaps_as_variable_as_they_should_be() -> None:
    found = times_ms(Arrivals(poisson=Poisson(rate_per_s=100.0, duration_s=200.0)))
    assert 200e3 > found[-1] > 199e3
    gaps = [b - a for a, b in pairwise(found)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(10.0, rel=0.03)  # 20,000 gaps: four standard errors
    assert deviation == pytest.approx(10.0, rel=0.05)


def test_streams_depend_on_seed_and_name_alone() -> None:
    arrivals = Arrivals(poisson=Poisson(rate_per_s=100.0, duration_s=1.0))
    assert times_ms(arrivals, 1) == times_ms(arrivals, 1)
    assert times_ms(arrivals, 1) != times_ms(arrivals, 2)
    assert times_ms(arrivals, 1) != times_ms(arrivals, 1, "b")


def test_service_times_vary_by_the_share_without_changing_when_requests_come() -> None:
    arrivals = Arrivals(every_ms=1.0, count=2000, jitter_ms=1.0)
    even = arrivals_of("a", Task(service_ms=1.0, arrivals=arrivals), 3)
    varied = arrivals_of("a", Task(service_ms=1.0, jitter=0.25, arrivals=arrivals), 3)
    assert [a.at_us for a in even] == [a.at_us for a in varied]
    assert {a.stretch for a in even} == {1.0}
    assert 0.75 <= min(a.stretch for a in varied) < 0.76
    assert 1.24 < max(a.stretch for a in varied) <= 1.25


URGENT = Task(
    service_ms=8.0, priority=7, latency_budget_ms=80.0, protect="strict", queue_size=24, drop_policy="drop_oldest",
    timeout_ms=500.0, target_fps=25.0, max_queue_delay_ms=2.0, batch_size=4, slots=2, instances=3,
    arrivals=Arrivals(every_ms=10.0, count=1),
)  # fmt: skip


def test_inferoxy_is_told_everything() -> None:
    spec = spec_of("a", URGENT, Policy.INFEROXY)
    for name in set(Task.model_fields) & set(ModelSpec.__struct_fields__) - {"instances"}:
        assert getattr(spec, name) == getattr(URGENT, name), name
    assert (spec.instances.min, spec.instances.max) == (3, 3)


def test_priority_is_told_a_deadline_in_place_of_what_is_to_be_planned_for() -> None:
    told, spec = spec_of("a", URGENT, Policy.INFEROXY), spec_of("a", URGENT, Policy.PRIORITY)
    assert (spec.timeout_ms, spec.latency_budget_ms, spec.target_fps, spec.protect) == (80.0, 0.0, 0.0, "none")
    spec.timeout_ms, spec.latency_budget_ms, spec.target_fps, spec.protect = 500.0, 80.0, 25.0, "strict"
    assert spec == told


def test_fifo_is_told_nothing_that_tells_requests_apart() -> None:
    calm = Task(service_ms=8.0, batch_size=4, slots=2, instances=3, arrivals=Arrivals(every_ms=10.0, count=1))
    spec = spec_of("a", URGENT, Policy.FIFO)
    assert spec == spec_of("a", calm, Policy.FIFO)
    assert (spec.latency_budget_ms, spec.target_fps, spec.protect, spec.drop_policy) == (0.0, 0.0, "none", "reject")
    assert spec.queue_size >= MAX_REQUESTS
