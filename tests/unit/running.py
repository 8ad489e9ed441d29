"""A world for a Reconciler in a test: a launcher, a batch manager and a clock that do only what the test says."""

from dataclasses import dataclass, field
from typing import Any

from inferoxy import messages as m
from inferoxy.messages import InstanceState as S
from inferoxy.messages import ModelSpec
from task_manager.launchers.base import Exit, Running
from task_manager.placement import Gpu
from task_manager.planner import Drain, Kill, Limits, Stop
from task_manager.reconcile import Reconciler, Start
from task_manager.states import Instance, ModelKey

LIMITS = Limits(drain_s=10.0, grace_s=15.0, lost_s=5.0)


def spec(name: str = "scale", **fields: Any) -> ModelSpec:
    """A model that is complete but for what a test cares about."""
    return ModelSpec(name=name, artifact=f"/models/{name}.onnx", **fields)


@dataclass
class World:
    """Drives one Reconciler. Figures of queues are set by the test; `loads` tells them."""

    specs: list[ModelSpec]
    gpus: list[Gpu] = field(default_factory=list)
    now: float = 1000.0
    is_adopted: bool = True
    epoch: int = 1
    queued: dict[ModelKey, int] = field(default_factory=dict)
    in_flight: dict[ModelKey, int] = field(default_factory=dict)
    compute_s: float = 0.0
    connected: dict[str, float] = field(default_factory=dict)  # instance -> idle since
    actions: list[Start | Drain | Stop | Kill] = field(default_factory=list)
    told: dict[ModelKey, m.Condition] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.count = 0
        self.records = Reconciler(self.gpus, LIMITS, lambda: self.now, self._new_id)
        if self.is_adopted:
            self.records.on_adopted([], self.now)
        self.catalog(self.specs)
        self.loads()

    def catalog(self, specs: list[ModelSpec]) -> None:
        self.specs = specs
        self.records.on_catalog(m.Catalog(revision=str(self.now), models=specs), self.now)

    def loads(self) -> None:
        """The batch manager tells what the test has set."""
        loads = [
            m.ModelLoad(
                model=s.name,
                model_version=s.version,
                queued=self.queued.get(s.key, 0),
                oldest_s=0.0,
                in_flight=self.in_flight.get(s.key, 0),
                rate=0.0,
                compute_s=self.compute_s,
                idle_s=0.0,
            )
            for s in self.specs
        ]
        known = self.records.instances
        connected = [
            m.ConnectedInstance(
                instance=name,
                model=known[name].model,
                model_version=known[name].version,
                in_flight=0,
                draining=known[name].state is S.DRAINING,
                idle_s=self.now - since,
                batches=0,
                requests=0,
            )
            for name, since in self.connected.items()
            if name in known
        ]
        self.records.on_loads(m.Loads(epoch=self.epoch, loads=loads, instances=connected), self.now)

    def plan(self) -> list[Start | Drain | Stop | Kill]:
        """What the task manager does now."""
        made = self.records.plan(self.now)
        self.actions += made
        for condition in self.records.conditions():
            self.told[(condition.model, condition.model_version)] = condition
        return made

    def tick(self, seconds: float = 1.0, *, plan: bool = True) -> list[Start | Drain | Stop | Kill]:
        """Time passes and the batch manager tells its figures."""
        self.now += seconds
        self.loads()
        return self.plan() if plan else []

    def launched(self, instance: str, at: float | None = None) -> None:
        """The launcher has started it."""
        found = self.records.instances[instance]
        self.records.on_launched(self.running(found, at), self.now)

    def running(self, found: Instance, at: float | None = None) -> Running:
        return Running(
            instance=found.id,
            model=found.model,
            version=found.version,
            digest=found.digest,
            device=found.device,
            gpu_memory_mib=found.gpu_memory_mib,
            where="pid 1",
            started_at=self.now if at is None else at,
            log="/logs/" + found.id,
        )

    def hello(self, instance: str) -> None:
        """The instance is loaded, and the batch manager says so at once."""
        self.connected[instance] = self.now
        self.loads()

    def ends(self, instance: str, code: int | None = 0, reason: str = "", tail: tuple[str, ...] = ()) -> None:
        """The instance's process has ended."""
        self.connected.pop(instance, None)
        self.records.on_exit(Exit(instance, code, reason or f"ended with exit code {code}", tail), self.now)

    def start_one(self, key: ModelKey | None = None) -> str:
        """Plan, and bring the only launch up to ready; its name."""
        (start,) = [a for a in self.plan() if isinstance(a, Start) and key in (None, a.launch.spec.key)]
        self.launched(start.instance)
        self.hello(start.instance)
        self.plan()
        return start.instance

    def states(self, key: ModelKey | None = None) -> list[str]:
        return sorted(str(i.state) for i in self.records.instances.values() if key in (None, i.key))

    def starts(self) -> list[str]:
        """The names of instances in LAUNCHING."""
        return [i.id for i in self.records.instances.values() if i.state is S.LAUNCHING]

    def _new_id(self, model: ModelSpec) -> str:
        self.count += 1
        return f"{model.name}-{model.version}-{self.count}"
