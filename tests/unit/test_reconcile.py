"""What events do to the task manager's records."""

import json

from inferoxy import messages as m
from inferoxy.messages import InstanceState as S
from inferoxy.messages import Scale
from task_manager.planner import Drain
from task_manager.reconcile import CONTACT_LOST_S, Start
from task_manager.requests import digest_of
from task_manager.states import Instance
from tests.unit.running import World, spec

KEY = ("scale", "1")


def found_running(world: World, name: str, digest: str) -> None:
    instance = Instance(id=name, model="scale", version="1", digest=digest, since=0.0)
    world.records.on_adopted([world.running(instance, at=world.now - 50.0)], world.now)


def test_nothing_is_decided_before_the_running_instances_are_known() -> None:
    world = World([spec(instances=Scale(1, 1))], is_adopted=False)
    assert world.plan() == []
    found_running(world, "scale-1-x", digest_of(spec()))
    assert world.plan() == []
    assert world.states() == ["loading"]


def test_nothing_is_decided_before_the_catalog_is_known() -> None:
    world = World([])
    records = type(world.records)([], world.records._limits, lambda: 0.0)
    found = Instance(id="scale-1-x", model="scale", version="1", digest="d", since=0.0)
    records.on_adopted([world.running(found)], world.now)
    records.on_loads(m.Loads(epoch=1), world.now)
    assert records.plan(world.now) == []


def test_a_launcher_that_is_away_at_the_start_is_told_to_clients() -> None:
    world = World([spec()], is_adopted=False)
    world.records.on_away("the Docker engine does not answer")
    world.plan()
    assert (world.told[KEY].state, world.told[KEY].error) == ("failing", "the Docker engine does not answer")
    world.records.on_adopted([], world.now)
    world.plan()
    assert world.told[KEY].state == "idle"


def test_an_adopted_instance_serves_on() -> None:
    world = World([spec(instances=Scale(1, 1))], is_adopted=False)
    found_running(world, "scale-1-x", digest_of(spec()))
    world.hello("scale-1-x")
    assert world.plan() == []
    assert world.told[KEY].state == "ready"
    (shown,) = world.records.report(world.now)["instances"]
    assert (shown["adopted"], shown["age_s"], shown["where"]) == (True, 50.0, "pid 1")


def test_an_adopted_instance_of_another_form_is_replaced() -> None:
    world = World([spec()], is_adopted=False)
    found_running(world, "scale-1-x", "another form")
    world.hello("scale-1-x")
    (start,) = world.plan()
    assert isinstance(start, Start)


def test_an_adopted_instance_of_a_removed_model_is_ended() -> None:
    world = World([], is_adopted=False)
    found_running(world, "scale-1-x", "any")
    assert [type(action).__name__ for action in world.plan()] == ["Stop"]


def test_the_death_of_an_adopted_instance_is_no_load_failure() -> None:
    world = World([spec()], is_adopted=False)
    found_running(world, "scale-1-x", digest_of(spec()))
    world.ends("scale-1-x", None, "ended")
    world.plan()
    assert world.told[KEY].state in ("starting", "idle")


def test_a_command_starts_an_instance_that_nobody_has_asked_for() -> None:
    world = World([spec(keep_warm_s=60.0)])
    world.records.on_command(m.Command(action="load", model="scale"), world.now)
    world.start_one()
    assert world.tick(59.0) == []
    assert isinstance(world.tick(1.0)[0], Drain)


def test_a_load_command_does_not_start_a_second_one() -> None:
    world = World([spec(instances=Scale(0, 4))])
    world.records.on_command(m.Command(action="load", model="scale"), world.now)
    world.start_one()
    world.records.on_command(m.Command(action="load", model="scale"), world.now)
    assert world.plan() == []


def test_a_load_command_ends_the_wait_after_a_failure() -> None:
    world = World([spec(instances=Scale(1, 1))])
    world.plan()
    for _ in range(2):
        world.records.on_launch_failed(*world.starts(), "broken", world.now)
        world.plan()
        world.now += 0.5
        world.plan()
    assert world.starts() == []
    world.records.on_command(m.Command(action="load", model="scale"), world.now)
    world.plan()
    assert len(world.starts()) == 1


def test_load_means_the_default_version_and_unload_all() -> None:
    world = World([spec(default=False), spec(version="2"), spec("other")])
    world.records.on_command(m.Command(action="load", model="scale"), world.now)
    assert [a.launch.spec.version for a in world.plan() if isinstance(a, Start)] == ["2"]
    world.records.on_command(m.Command(action="load", model="scale", model_version="1"), world.now)
    assert [a.launch.spec.version for a in world.plan() if isinstance(a, Start)] == ["1"]
    for name in world.starts():
        world.launched(name)
    world.records.on_command(m.Command(action="unload", model="scale"), world.now)
    world.plan()
    assert world.states() == ["stopping", "stopping"]


def test_an_unloaded_model_stays_away_until_the_next_request() -> None:
    world = World([spec(instances=Scale(1, 2))])
    name = world.start_one()
    world.records.on_command(m.Command(action="unload", model="scale"), world.now)
    assert isinstance(world.plan()[0], Drain)
    world.ends(name)
    assert world.tick(5.0) == []
    world.queued[KEY] = 1
    assert len(world.tick(1.0)) == 1


def test_conditions_are_told_once_and_again_to_a_new_batch_manager() -> None:
    world = World([spec(), spec("other")])
    world.plan()
    assert len(world.told) == 2
    world.told.clear()
    world.tick(1.0)
    assert world.told == {}
    world.epoch = 2
    world.tick(1.0)
    assert len(world.told) == 2


def test_a_condition_is_told_again_when_the_batch_manager_learns_of_the_model() -> None:
    world = World([spec()])
    world.records.on_loads(m.Loads(epoch=1), world.now)  # its catalog is not there yet
    world.plan()
    world.told.clear()
    world.records.on_loads(m.Loads(epoch=1), world.now)
    world.plan()
    assert world.told[KEY].state == "idle"


def test_figures_of_a_silent_batch_manager_are_forgotten() -> None:
    world = World([spec()])
    world.queued[KEY] = 5
    world.loads()
    world.now += CONTACT_LOST_S + 0.1
    assert world.plan() == []
    assert world.records.report(world.now)["batch_manager"] == "away"


def test_a_draining_instance_is_named_to_a_new_batch_manager() -> None:
    world = World([spec(keep_warm_s=1.0, instances=Scale(0, 1))])
    world.queued[KEY] = 1
    world.loads()
    name = world.start_one()
    world.queued.clear()
    world.tick(1.0)
    assert world.records.draining() == [name]


def test_an_instance_that_leaves_by_itself_is_no_failure() -> None:
    world = World([spec()])
    world.queued[KEY] = 1
    world.loads()
    name = world.start_one()
    world.queued.clear()
    world.loads()
    world.ends(name, 0)
    assert world.plan() == []
    assert world.records.report(world.now)["failures"] == []
    assert world.told[KEY].state == "idle"


def test_ending_all_stops_what_runs_and_leaves_launches_to_the_caller() -> None:
    world = World([spec(instances=Scale(2, 2))])
    world.plan()
    first, second = world.starts()
    world.launched(first)
    assert world.records.end_all(world.now) == [first]
    assert world.records.instances[first].state is S.STOPPING
    assert world.records.instances[second].state is S.LAUNCHING


def test_the_report_is_json_and_names_the_last_failures() -> None:
    world = World([spec()])
    world.queued[KEY] = 1
    world.loads()
    world.plan()
    (name,) = world.starts()
    world.launched(name)
    world.ends(name, 1, tail=("boom",))
    report = json.loads(json.dumps(world.records.report(world.now)))
    assert report["failures"][0]["id"] == name
    assert "boom" in report["failures"][0]["error"]
    assert report["failures"][0]["log"] == f"/logs/{name}"


def test_a_kill_before_readiness_was_seen_is_no_load_failure() -> None:
    world = World([spec()])
    world.queued[KEY] = 1
    world.loads()
    world.plan()
    (name,) = world.starts()
    world.launched(name)
    world.ends(name, 137)
    assert len([action for action in world.plan() if isinstance(action, Start)]) == 1
    assert world.told[KEY].state == "starting"


def test_an_instance_may_end_before_its_launch_was_reported() -> None:
    world = World([spec()])
    world.queued[KEY] = 1
    world.loads()
    world.plan()
    (name,) = world.starts()
    running = world.running(world.records.instances[name])
    world.ends(name, 70, tail=("no model",))
    world.records.on_launched(running, world.now)
    world.plan()
    assert world.records.instances == {}
    assert "no model" in world.told[KEY].error
