"""How many instances of a model there should be."""

import pytest

from inferoxy.messages import InstanceState as S
from inferoxy.messages import ModelLoad, Scale
from task_manager.scaling import Change, Want, change, note_pressure
from task_manager.states import Instance
from tests.unit.running import spec

NOW = 1000.0


def instance(number: int, state: S = S.READY, digest: str = "new", **fields: object) -> Instance:
    made = Instance(id=str(number), model="scale", version="1", digest=digest, since=0.0, state=state)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def want(queued: int = 0, in_flight: int = 0, compute_s: float = 0.0, **fields: object) -> Want:
    made = Want(spec(**fields), "new")
    made.load = ModelLoad("scale", "1", queued, 0.0, in_flight, 0.0, compute_s, 0.0)
    return made


def changed(model: Want, group: list[Instance], now: float = NOW, in_contact: bool = True) -> tuple[int, list[str]]:
    found: Change = change(model, group, now, in_contact=in_contact)
    return found.launches, sorted(i.id for i in found.retire)


def test_nothing_runs_that_nobody_asks_for() -> None:
    assert changed(want(), []) == (0, [])


def test_the_first_waiting_request_starts_one() -> None:
    assert changed(want(queued=1), []) == (1, [])
    assert changed(want(queued=500), []) == (1, [])


def test_one_that_is_coming_is_enough_for_all_that_waits() -> None:
    assert changed(want(queued=500, instances=Scale(0, 4)), [instance(1, S.LAUNCHING)]) == (0, [])


def test_the_minimum_runs_without_requests() -> None:
    assert changed(want(instances=Scale(2, 4)), []) == (2, [])


def test_an_instance_leaves_after_it_was_idle_for_keep_warm_s() -> None:
    model = want(keep_warm_s=60.0)
    assert changed(model, [instance(1, idle_s=59.9)]) == (0, [])
    assert changed(model, [instance(1, idle_s=60.0)]) == (0, ["1"])


def test_the_idlest_leave_and_the_minimum_stays() -> None:
    model = want(keep_warm_s=10.0, instances=Scale(1, 4))
    group = [instance(1, idle_s=20.0), instance(2, idle_s=40.0), instance(3, idle_s=30.0)]
    assert changed(model, group) == (0, ["2", "3"])


@pytest.mark.parametrize("busy", [{"in_flight": 1}, {"sequences": 1}])
def test_an_instance_that_owes_something_is_not_idle(busy: dict[str, int]) -> None:
    assert changed(want(keep_warm_s=1.0), [instance(1, idle_s=9.0, **busy)]) == (0, [])


def test_nobody_leaves_while_requests_wait_or_the_batch_manager_is_away() -> None:
    group = [instance(1, idle_s=99.0)]
    assert changed(want(queued=1, keep_warm_s=1.0), group) == (0, [])
    assert changed(want(keep_warm_s=1.0), group, in_contact=False) == (0, [])


def test_a_long_predicted_wait_brings_one_more() -> None:
    model = want(queued=100, compute_s=0.1, instances=Scale(0, 4))
    note_pressure(model, 1, NOW)
    assert changed(model, [instance(1)]) == (1, [])


def test_a_wait_within_the_budget_brings_none() -> None:
    model = want(queued=9, compute_s=0.1, instances=Scale(0, 4))
    note_pressure(model, 1, NOW)
    assert model.pressed_since is None
    assert changed(model, [instance(1)]) == (0, [])


def test_a_wait_that_is_over_before_a_start_would_be_brings_none_unless_it_lasts() -> None:
    model = want(queued=10, compute_s=0.1, latency_budget_ms=100.0, instances=Scale(0, 4))
    model.history.load_s = 5.0
    note_pressure(model, 1, NOW)
    assert changed(model, [instance(1)]) == (0, [])
    assert changed(model, [instance(1)], NOW + 4.9) == (0, [])
    assert changed(model, [instance(1)], NOW + 5.0) == (1, [])


def test_pressure_that_eases_is_forgotten() -> None:
    model = want(queued=10, compute_s=0.2, instances=Scale(0, 4))
    note_pressure(model, 1, NOW)
    model.load = ModelLoad("scale", "1", 0, 0.0, 4, 0.0, 0.2, 0.0)
    note_pressure(model, 1, NOW + 1)
    assert model.pressed_since is None


def test_scaling_out_goes_one_at_a_time_and_stops_at_the_maximum() -> None:
    model = want(queued=10_000, compute_s=0.1, instances=Scale(0, 3))
    note_pressure(model, 1, NOW)
    assert changed(model, [instance(1), instance(2, S.LOADING)]) == (0, [])
    assert changed(model, [instance(1), instance(2)]) == (1, [])
    assert changed(model, [instance(1), instance(2), instance(3)]) == (0, [])


def test_what_is_above_a_lowered_maximum_leaves_the_unstarted_first() -> None:
    model = want(queued=1, in_flight=2, instances=Scale(0, 1))
    group = [instance(1, in_flight=1), instance(2, S.LOADING), instance(3, idle_s=5.0)]
    assert changed(model, group) == (0, ["2", "3"])


def test_an_unloaded_model_loses_all() -> None:
    model = want(instances=Scale(1, 4), in_flight=3)
    model.is_unloaded = True
    assert changed(model, [instance(1), instance(2)]) == (0, ["1", "2"])


def test_what_is_owed_is_launched_within_the_maximum() -> None:
    model = want(instances=Scale(0, 2))
    model.owed = 3
    assert changed(model, [instance(1)]) == (1, [])


def test_a_changed_model_gets_a_new_instance_before_an_old_one_leaves() -> None:
    model = want(instances=Scale(0, 1))
    model.rolling = 1
    old = instance(1, digest="old")
    assert changed(model, [old]) == (1, [])
    assert changed(model, [old, instance(2, S.LAUNCHING)]) == (0, [])
    assert changed(model, [old, instance(2, S.LOADING)]) == (0, [])
    assert changed(model, [old, instance(2)]) == (0, ["1"])


def test_a_changed_model_rolls_one_by_one_and_keeps_its_size() -> None:
    model = want(instances=Scale(0, 3))
    model.rolling = 3
    group = [instance(n, digest="old") for n in (1, 2, 3)]
    number, largest = 10, 3
    for _ in range(20):
        launches, retired = changed(model, group)
        group = [i for i in group if i.id not in retired]
        for fresh in group:
            fresh.state = S.READY
        assert launches <= 1
        for _ in range(launches):
            number += 1
            group.append(instance(number, S.LOADING))
        largest = max(largest, len(group))
        assert sum(i.state is S.READY for i in group) >= 3
    assert [i.digest for i in group] == ["new"] * 3
    assert largest == 4


def test_old_instances_that_are_not_ready_are_not_waited_for() -> None:
    model = want(queued=1)
    model.rolling = 1
    assert changed(model, [instance(1, S.LOADING, "old")]) == (1, ["1"])


def test_an_old_instance_that_has_been_idle_leaves_without_a_successor() -> None:
    model = want(keep_warm_s=10.0)
    model.rolling = 1
    assert changed(model, [instance(1, digest="old", idle_s=11.0)]) == (0, ["1"])


def test_sequences_without_a_place_start_as_many_instances_as_they_need() -> None:
    model = want(queued=5, stateless=False, max_sequences=2, instances=Scale(0, 4))
    assert model.load is not None
    model.load.sequences_waiting = 5
    assert changed(model, []) == (3, [])
    assert changed(model, [instance(1), instance(2, S.LOADING)]) == (2, [])
    starting = [instance(number, S.LAUNCHING) for number in range(3)]
    assert changed(model, starting) == (0, [])
