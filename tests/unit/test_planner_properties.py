"""Whatever happens in whatever order: bounds hold at every step, and once the world is calm everybody is served."""

from collections import Counter

import pytest
import structlog
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from inferoxy import messages as m
from inferoxy.messages import InstanceState as S
from inferoxy.messages import ModelSpec, Scale
from task_manager import reconcile
from task_manager.placement import Gpu
from task_manager.planner import Kill
from task_manager.reconcile import Start
from task_manager.states import ACTIVE, Instance
from tests.unit.running import World, spec

NAMES = ("cpu", "gpu-a", "gpu-b")
MEMORY_MIB = {"cpu": 0, "gpu-a": 3000, "gpu-b": 6000}
KEEP_WARM_S = 20.0
SERVED_PER_TICK = 20
SETTLING_ROUNDS = 5


class TaskManager(RuleBasedStateMachine):
    """Three models on two GPUs and a CPU; every event the outside can produce is a rule."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = dict.fromkeys(NAMES, Scale(0, 2))
        self.forms = dict.fromkeys(NAMES, 1)
        self.registered = set(NAMES)
        self.is_away = False
        self.world = World(self.specs(), gpus=[Gpu("0", 8000), Gpu("1", 8000)])
        self.world.compute_s = 0.3
        self.plan()

    def specs(self) -> list[ModelSpec]:
        return [
            spec(
                name,
                batch_size=self.forms[name],
                instances=self.scales[name],
                run_on_gpu=name != "cpu",
                gpu_memory_mib=MEMORY_MIB[name],
                keep_warm_s=KEEP_WARM_S,
                load_timeout_s=30.0,
                timeout_ms=5000.0,
            )
            for name in NAMES
            if name in self.registered
        ]

    # What the task manager does

    def plan(self) -> None:
        """Decide until there is nothing left to decide, which without news must be soon and without going back."""
        records = self.world.records
        started: set[str] = set()
        for _ in range(SETTLING_ROUNDS):
            before = {i.id: i.state for i in records.instances.values()}
            faulted = {i.key for i in records.instances.values() if i.fault}
            actions = self.world.plan()
            if not actions:
                return
            forms = {(a.launch.spec.key, a.launch.digest) for a in actions if isinstance(a, Start)}
            for action in actions:
                if isinstance(action, Start):
                    started.add(action.instance)
                    self.check_launch(action, faulted)
                else:
                    assert before[action.instance.id] is not S.LAUNCHING
                    assert action.instance.id not in started, "launched and ended in one breath"
                    is_retired = before[action.instance.id] in ACTIVE and not isinstance(action, Kill)
                    assert not is_retired or (action.instance.key, action.instance.digest) not in forms
        raise AssertionError(f"does not settle: {actions}")

    def check_launch(self, action: Start, faulted: set[tuple[str, str]]) -> None:
        records = self.world.records
        want = records.wants[action.launch.spec.key]
        group = [i for i in records.instances.values() if i.key == want.spec.key and i.state in ACTIVE]
        current = [i for i in group if i.digest == want.digest]
        assert len(current) <= want.spec.instances.max
        assert len(group) <= want.spec.instances.max + (len(current) < len(group))
        assert not want.history.waits(self.world.now)
        assert want.spec.key not in faulted

    # What happens

    @rule(name=st.sampled_from(NAMES), count=st.integers(1, 40))
    def requests_arrive(self, name: str, count: int) -> None:
        if name in self.registered and not self.is_away:
            verdict = self.world.told.get((name, "1"))
            if verdict is None or verdict.state != "failing":
                queued = self.world.queued
                queued[(name, "1")] = queued.get((name, "1"), 0) + count
                self.world.loads()
                self.plan()

    @rule(seconds=st.sampled_from([0.1, 0.6, 1.0, 1.0, 1.0, 3.0, 25.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.now += seconds
        if not self.is_away:
            self.serve()
            self.world.loads()
        self.plan()

    @rule(data=st.data(), works=st.sampled_from([True, True, True, False]))
    def a_launch_is_over(self, data: st.DataObject, works: bool) -> None:
        starts = self.world.starts()
        if starts:
            name = data.draw(st.sampled_from(starts))
            if works:
                self.world.launched(name)
            else:
                self.world.records.on_launch_failed(name, "no such image", self.world.now)
            self.plan()

    @rule(data=st.data())
    def an_instance_says_hello(self, data: st.DataObject) -> None:
        loading = self.of(S.LOADING)
        if loading and not self.is_away:
            self.world.hello(data.draw(st.sampled_from(loading)).id)
            self.plan()

    @rule(data=st.data(), code=st.sampled_from([0, 1, -9, None]))
    def an_instance_ends(self, data: st.DataObject, code: int | None) -> None:
        running = self.of(S.LOADING, S.READY, S.DRAINING, S.STOPPING)
        if running:
            self.world.ends(data.draw(st.sampled_from(running)).id, code)
            self.plan()

    @rule(data=st.data())
    def the_batch_manager_loses_an_instance(self, data: st.DataObject) -> None:
        if self.world.connected:
            del self.world.connected[data.draw(st.sampled_from(sorted(self.world.connected)))]

    @rule()
    def the_batch_manager_is_killed(self) -> None:
        self.is_away = True
        self.world.queued.clear()

    @rule()
    def the_batch_manager_is_back(self) -> None:
        if self.is_away:
            self.is_away = False
            self.world.epoch += 1
            self.world.loads()
            self.plan()

    @rule(name=st.sampled_from(NAMES), low=st.integers(0, 2), more=st.integers(0, 2), is_new_form=st.booleans())
    def a_model_changes(self, name: str, low: int, more: int, is_new_form: bool) -> None:
        self.scales[name] = Scale(low, max(1, low + more))
        self.forms[name] += is_new_form
        self.registered.add(name)
        self.world.catalog(self.specs())
        self.plan()

    @rule(name=st.sampled_from(NAMES))
    def a_model_is_removed(self, name: str) -> None:
        self.registered.discard(name)
        self.world.queued.pop((name, "1"), None)
        self.world.catalog(self.specs())
        self.plan()

    @rule(name=st.sampled_from(NAMES), action=st.sampled_from(["load", "unload"]))
    def a_person_commands(self, name: str, action: str) -> None:
        self.world.records.on_command(m.Command(action=action, model=name), self.world.now)
        self.plan()

    # What must hold

    @invariant()
    def a_gpu_holds_one_copy_of_a_model_and_no_more_than_fits(self) -> None:
        on_gpus = [i for i in self.world.records.instances.values() if i.device != "cpu"]
        assert all(count == 1 for count in Counter((i.device, i.key) for i in on_gpus).values())
        for device in {i.device for i in on_gpus}:
            assert sum(i.gpu_memory_mib for i in on_gpus if i.device == device) <= 8000

    @invariant()
    def a_model_that_can_be_had_is_never_called_failing(self) -> None:
        for key, verdict in self.world.records.verdicts.items():
            if any(i.state is S.READY for i in self.group(key)):
                assert verdict.state == "ready"
            elif any(i.state in ACTIVE for i in self.group(key)):
                assert verdict.state == "starting"

    @invariant()
    def fewer_than_the_minimum_run_only_for_a_reason(self) -> None:
        records = self.world.records
        for key, want in records.wants.items():
            active = [i for i in self.group(key) if i.state in ACTIVE]
            if len(active) < want.spec.instances.min:
                is_blocked = want.spec.run_on_gpu or any(i.fault for i in self.group(key))
                is_probing = want.history.is_load_failure
                assert want.is_unloaded or want.history.waits(self.world.now) or is_blocked or is_probing

    def teardown(self) -> None:
        """Calm: the batch manager is there, everything loads, drains end, requests are served."""
        self.the_batch_manager_is_back()
        for _ in range(75):
            for name in self.world.starts():
                self.world.launched(name)
            for loading in self.of(S.LOADING):
                self.world.connected[loading.id] = self.world.now
            for leaving in self.of(S.DRAINING, S.STOPPING):
                self.world.ends(leaving.id, 0)
            self.time_passes(2.0)
        records = self.world.records
        for key, want in records.wants.items():
            group = self.group(key)
            assert not self.world.queued.get(key) or records.verdicts[key].state == "failing"
            assert all(i.state is S.READY and i.digest == want.digest for i in group), (want, group)
            is_short = want.is_unloaded or key in records._unplaced
            low = want.spec.instances.min
            assert len(group) == low or (len(group) < low and is_short), (want, group)
        assert {i.key for i in records.instances.values()} <= set(records.wants)

    # Parts

    def serve(self) -> None:
        for name in self.registered:
            key = (name, "1")
            ready = [i for i in self.group(key) if i.state is S.READY and i.id in self.world.connected]
            waiting = self.world.queued.get(key, 0)
            if ready and waiting:
                self.world.queued[key] = max(0, waiting - SERVED_PER_TICK * len(ready))
                for instance in ready:
                    self.world.connected[instance.id] = self.world.now

    def group(self, key: tuple[str, str]) -> list[Instance]:
        return [i for i in self.world.records.instances.values() if i.key == key]

    def of(self, *states: S) -> list[Instance]:
        return [i for i in self.world.records.instances.values() if i.state in states]


TestTaskManager = TaskManager.TestCase
TestTaskManager.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@pytest.fixture(autouse=True)
def _silence(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = structlog.make_filtering_bound_logger("critical")
    monkeypatch.setattr(reconcile, "log", structlog.wrap_logger(None, wrapper_class=quiet))
