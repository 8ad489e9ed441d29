"""What is launched and ended, and what clients are told meanwhile."""

import pytest

from inferoxy.messages import InstanceState as S
from inferoxy.messages import Scale
from task_manager.placement import Gpu
from task_manager.planner import LOST_AFTER_S, Drain, Kill, Stop
from task_manager.reconcile import Start
from tests.unit.running import LIMITS, World, spec

KEY = ("scale", "1")


def kinds(actions: list[Start | Drain | Stop | Kill]) -> list[str]:
    return [type(action).__name__ for action in actions]


def test_an_idle_catalog_starts_nothing() -> None:
    world = World([spec(), spec("other")])
    assert world.plan() == []
    assert world.told[KEY].state == "idle"


def test_the_first_request_starts_an_instance_at_once() -> None:
    world = World([spec()])
    world.plan()
    world.queued[KEY] = 1
    world.loads()
    assert kinds(world.plan()) == ["Start"]
    assert world.told[KEY].state == "starting"


def test_a_ready_instance_makes_its_model_ready() -> None:
    world = World([spec()])
    world.queued[KEY] = 1
    world.loads()
    world.start_one()
    assert world.states() == ["ready"]
    assert world.told[KEY].state == "ready"


def test_an_idle_instance_is_drained_and_its_model_is_idle_again() -> None:
    world = World([spec(keep_warm_s=30.0)])
    world.queued[KEY] = 1
    world.loads()
    name = world.start_one()
    world.queued.clear()
    assert world.tick(29.0) == []
    (drain,) = world.tick(1.0)
    assert isinstance(drain, Drain)
    assert drain.instance.id == name
    world.ends(name)
    world.plan()
    assert world.told[KEY].state == "idle"
    assert world.states() == []


def test_a_load_failure_is_told_with_the_log_and_tried_again_after_the_delay() -> None:
    world = World([spec()])
    world.queued[KEY] = 1
    world.loads()
    world.plan()
    (name,) = world.starts()
    world.launched(name)
    world.ends(name, 1, tail=("Traceback", "ValueError: broken weights"))
    assert world.plan() == []
    told = world.told[KEY]
    assert told.state == "failing"
    assert told.retry_s == 0.5
    assert "ended with exit code 1 before it was seen to be ready" in told.error
    assert told.error.endswith("Traceback\nValueError: broken weights")
    assert world.records.wake_at == world.now + 0.5
    world.queued.clear()
    world.tick(0.5)
    assert world.told[KEY].state == "idle"
    world.queued[KEY] = 1
    assert kinds(world.tick(0.1)) == ["Start"]
    assert world.told[KEY].state == "starting"


def test_a_minimum_is_tried_again_by_itself_one_at_a_time() -> None:
    world = World([spec(instances=Scale(3, 3))])
    assert kinds(world.plan()) == ["Start"] * 3
    world.now += 0.2
    for name in world.starts():
        world.launched(name)
        world.ends(name, 1)
    assert world.plan() == []
    assert kinds(world.tick(0.5)) == ["Start"]
    assert world.tick(1.0) == []


def test_a_failed_launch_is_a_load_failure() -> None:
    world = World([spec()])
    world.queued[KEY] = 1
    world.loads()
    world.plan()
    world.records.on_launch_failed(*world.starts(), "model 'scale': image x is not on the engine", world.now)
    world.plan()
    assert world.told[KEY].error == "model 'scale': image x is not on the engine"
    assert world.told[KEY].state == "failing"


def test_a_crashed_instance_is_replaced_at_once_even_if_nobody_waits() -> None:
    world = World([spec()])
    world.queued[KEY] = 1
    world.loads()
    name = world.start_one()
    world.queued.clear()
    world.tick(2.0)
    world.ends(name, -9, "was ended by SIGKILL")
    assert kinds(world.plan()) == ["Start"]
    assert world.told[KEY].state == "starting"


def test_the_second_crash_in_a_row_waits_and_does_not_refuse_requests() -> None:
    world = World([spec()])
    world.queued[KEY] = 1
    world.loads()
    for expected in (["Start"], []):
        name = world.start_one() if not world.states() else world.starts()[0]
        if world.records.instances[name].state is S.LAUNCHING:
            world.launched(name)
            world.hello(name)
        world.now += 1.0
        world.ends(name, -11, "was ended by SIGSEGV")
        assert kinds(world.plan()) == expected
    assert world.told[KEY].state == "starting"
    assert kinds(world.tick(0.5)) == ["Start"]


def test_a_crash_loop_is_slowed_and_requests_wait_because_one_of_them_may_be_to_blame() -> None:
    world = World([spec()])
    world.queued[KEY] = 1
    for _ in range(6):
        world.loads()
        world.plan()
        if not world.starts():
            world.now = world.records.wake_at
            world.loads()
            world.plan()
        (name,) = world.starts()
        world.launched(name)
        world.hello(name)
        world.now += 0.1
        world.ends(name, -11, "was ended by SIGSEGV")
    world.plan()
    assert world.told[KEY].state == "starting"
    assert not world.starts()
    assert world.records.wake_at > world.now


def test_one_crash_of_two_leaves_the_model_ready() -> None:
    world = World([spec(instances=Scale(2, 2))])
    world.plan()
    first, second = world.starts()
    for name in (first, second):
        world.launched(name)
        world.hello(name)
    world.plan()
    world.ends(first, -9)
    assert kinds(world.plan()) == ["Start"]
    assert world.told[KEY].state == "ready"


def test_an_instance_that_does_not_load_in_time_is_killed_and_counted_when_it_has_ended() -> None:
    world = World([spec(load_timeout_s=20.0)])
    world.queued[KEY] = 1
    world.loads()
    world.plan()
    (name,) = world.starts()
    world.launched(name)
    for _ in range(19):
        assert world.tick(1.0) == []
    (kill,) = world.tick(1.0)
    assert isinstance(kill, Kill)
    assert world.told[KEY].state == "starting"
    assert world.tick(0.1) == []
    world.ends(name, -9, tail=("downloading weights",))
    world.plan()
    assert world.told[KEY].state == "failing"
    assert "did not become ready within 20 s (load_timeout_s)" in world.told[KEY].error
    assert "downloading weights" in world.told[KEY].error


def test_loading_time_does_not_count_while_the_batch_manager_is_away() -> None:
    world = World([spec(load_timeout_s=20.0)])
    world.queued[KEY] = 1
    world.loads()
    world.plan()
    world.launched(*world.starts())
    world.now += 100.0
    assert world.plan() == []
    assert world.tick(1.0) == []
    assert world.states() == ["loading"]


def test_an_instance_that_the_batch_manager_has_lost_is_killed_and_replaced() -> None:
    world = World([spec()])
    world.queued[KEY] = 1
    world.loads()
    name = world.start_one()
    for _ in range(6):
        world.tick(1.0)
    del world.connected[name]
    assert world.tick(LOST_AFTER_S / 2) == []
    (kill,) = world.tick(LOST_AFTER_S / 2)
    assert isinstance(kill, Kill)
    world.ends(name, -9)
    assert kinds(world.plan()) == ["Start"]


def test_instances_get_time_to_come_back_to_a_new_batch_manager() -> None:
    world = World([spec()])
    world.queued[KEY] = 1
    world.loads()
    name = world.start_one()
    del world.connected[name]
    world.queued.clear()
    world.epoch = 2
    world.loads()
    for _ in range(int(LIMITS.lost_s) - 1):
        assert world.tick(1.0) == []
    world.connected[name] = world.now
    assert world.tick(5.0) == []
    assert world.states() == ["ready"]


def test_a_drain_that_takes_too_long_becomes_a_stop_and_then_a_kill() -> None:
    world = World([spec(keep_warm_s=1.0, timeout_ms=20_000.0)])
    world.queued[KEY] = 1
    world.loads()
    name = world.start_one()
    world.queued.clear()
    assert kinds(world.tick(1.0)) == ["Drain"]
    assert world.tick(19.9) == []
    assert kinds(world.tick(0.1)) == ["Stop"]
    assert world.tick(LIMITS.grace_s - 0.1) == []
    assert kinds(world.tick(0.1)) == ["Kill"]
    assert world.tick(1.0) == []
    world.ends(name, -9)
    world.plan()
    assert world.told[KEY].state == "idle"


def test_a_request_during_a_drain_starts_another_instance() -> None:
    world = World([spec(keep_warm_s=1.0)])
    world.queued[KEY] = 1
    world.loads()
    world.start_one()
    world.queued.clear()
    world.tick(1.0)
    world.queued[KEY] = 1
    assert kinds(world.tick(0.1)) == ["Start"]


def test_a_removed_model_is_drained() -> None:
    world = World([spec(), spec("other", instances=Scale(1, 1))])
    name = world.start_one()
    world.catalog([spec()])
    (drain,) = world.plan()
    assert isinstance(drain, Drain)
    assert drain.instance.id == name
    assert ("other", "1") not in world.records.verdicts


def test_another_priority_changes_no_instance() -> None:
    world = World([spec(instances=Scale(1, 1))])
    world.start_one()
    world.catalog([spec(instances=Scale(1, 3), priority=7, timeout_ms=1.0, queue_size=9, keep_warm_s=5.0)])
    assert world.plan() == []


@pytest.mark.parametrize("change", [{"batch_size": 4}, {"options": {"confidence": 0.4}}, {"environment": {"A": "b"}}])
def test_another_form_of_a_model_replaces_its_instance_new_one_first(change: dict[str, object]) -> None:
    world = World([spec(instances=Scale(1, 1))])
    old = world.start_one()
    world.catalog([spec(instances=Scale(1, 1), **change)])
    assert kinds(world.plan()) == ["Start"]
    (new,) = world.starts()
    world.launched(new)
    assert world.tick(1.0) == []
    world.hello(new)
    (drain,) = world.plan()
    assert isinstance(drain, Drain)
    assert drain.instance.id == old
    assert world.told[KEY].state == "ready"


def test_a_new_form_that_does_not_load_leaves_the_old_one_serving() -> None:
    world = World([spec(instances=Scale(1, 1))])
    old = world.start_one()
    world.catalog([spec(instances=Scale(1, 1), batch_size=4)])
    world.plan()
    (new,) = world.starts()
    world.launched(new)
    world.ends(new, 1, tail=("no",))
    world.plan()
    assert world.told[KEY].state == "ready"
    assert world.records.instances[old].state is S.READY
    assert kinds(world.tick(0.5)) == ["Start"]


def test_a_changed_model_on_its_only_gpu_makes_room_first() -> None:
    form = {"run_on_gpu": True, "gpu_memory_mib": 5000, "instances": Scale(1, 1)}
    world = World([spec(**form)], gpus=[Gpu("0", 8000)])
    old = world.start_one()
    world.catalog([spec(**form, batch_size=4)])
    assert kinds(world.plan()) == ["Drain"]
    assert world.tick(0.5) == []
    assert world.told[KEY].state == "starting"
    world.ends(old)
    assert kinds(world.plan()) == ["Start"]


def test_a_model_that_cannot_be_placed_says_so_before_anybody_asks() -> None:
    world = World([spec(run_on_gpu=True)])
    world.plan()
    told = world.told[KEY]
    assert told.state == "failing"
    assert told.error.startswith("model 'scale' cannot be placed: it has run_on_gpu: true, and no GPU")
    assert world.records.report(world.now)["models"][0]["unplaced"].startswith("it has run_on_gpu")


def test_a_gpu_that_comes_free_makes_the_next_model_possible() -> None:
    form = {"run_on_gpu": True, "gpu_memory_mib": 5000, "keep_warm_s": 10.0}
    world = World([spec("a", **form), spec("b", **form)], gpus=[Gpu("0", 8000)])
    world.queued[("a", "1")] = 1
    world.loads()
    first = world.start_one(("a", "1"))
    assert world.told[("b", "1")].state == "failing"
    assert "GPU 0 has 3000 of 8000 MiB left beside a, the model needs 5000 MiB" in world.told[("b", "1")].error
    world.queued.clear()
    assert kinds(world.tick(10.0)) == ["Drain"]
    assert world.told[("b", "1")].state == "idle"
    world.queued[("b", "1")] = 1
    assert world.tick(0.1) == []
    assert world.told[("b", "1")].state == "starting"
    world.ends(first)
    assert kinds(world.plan()) == ["Start"]


def test_the_higher_priority_gets_the_gpu_that_two_wait_for() -> None:
    form = {"run_on_gpu": True, "gpu_memory_mib": 5000}
    world = World([spec("low", priority=1, **form), spec("high", priority=9, **form)], gpus=[Gpu("0", 8000)])
    world.queued = {("low", "1"): 50, ("high", "1"): 1}
    world.loads()
    (start,) = world.plan()
    assert isinstance(start, Start)
    assert start.launch.spec.name == "high"
    assert start.launch.device == "gpu:0"


def test_a_second_copy_goes_to_the_second_gpu_and_a_third_nowhere() -> None:
    world = World([spec(run_on_gpu=True, instances=Scale(3, 3))], gpus=[Gpu("0"), Gpu("1")])
    devices = [action.launch.device for action in world.plan() if isinstance(action, Start)]
    assert devices == ["gpu:0", "gpu:1"]
    assert world.told[KEY].state == "starting"
    assert world.records.report(world.now)["models"][0]["unplaced"].count("runs a copy of it already") == 2


def test_a_model_that_is_killed_while_it_loads_refuses_from_the_second_time_on() -> None:
    world = World([spec()])
    world.queued[KEY] = 1
    told = []
    for _ in range(2):
        world.loads()
        world.plan()
        (name,) = world.starts()
        world.launched(name)
        world.now += 0.3
        world.ends(name, 137, "was killed because it used more than its 128 MiB of memory (memory_mib)")
        world.plan()
        told.append(world.told[KEY].state)
    assert told == ["starting", "failing"]
    assert "128 MiB" in world.told[KEY].error
