"""Decide what to launch and what to end: wanted against running.

Pure: `plan` reads records and answers with actions; reconcile.py keeps the records, runner.py performs the actions.
How many of a model are wanted is scaling.py's, which GPU placement.py's, how long to wait after a failure backoff.py's.
Invariants: nothing is launched while the model's back-off lasts, nor while one of its instances is being killed for a
fault; a GPU never gets two copies of one model; an instance is killed for silence only if the batch manager is heard.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from inferoxy.messages import InstanceState as S
from inferoxy.messages import ModelSpec
from task_manager import scaling
from task_manager.placement import CPU, Gpu, Tenant, place
from task_manager.scaling import Want
from task_manager.states import ACTIVE, LEAVING, STARTING, Instance, ModelKey

DEFAULT_LOAD_TIMEOUT_S = 120.0  # of an instance whose model is no longer registered
LOST_AFTER_S = 2.0  # the batch manager has dropped the instance already; time for it to say hello again
UNPLACED_RETRY_S = 5.0
NEVER = float("inf")


class Launch(NamedTuple):
    """Start an instance of this model on this device."""

    spec: ModelSpec
    digest: str
    device: str


class Drain(NamedTuple):
    """Have the batch manager send it nothing more, and end it when it is free."""

    instance: Instance
    reason: str


class Stop(NamedTuple):
    """Ask the process to end."""

    instance: Instance
    reason: str


class Kill(NamedTuple):
    """End it now. With a `fault`, its end is a failure of the model."""

    instance: Instance
    reason: str
    fault: str = ""


Action = Launch | Drain | Stop | Kill


class Verdict(NamedTuple):
    """Whether a model can be had; what messages.Condition says of it."""

    state: Literal["starting", "ready", "idle", "failing"]
    error: str = ""
    retry_s: float = 0.0


class Limits(NamedTuple):
    """Bounds from settings, in seconds.

    `drain_s` until a draining instance is stopped, `grace_s` until one that was told to stop is killed, `lost_s` that
    the batch manager waits for a silent instance.
    """

    drain_s: float = 10.0
    grace_s: float = 10.0
    lost_s: float = 5.0


@dataclass(slots=True)
class Plan:
    """What to do, what to tell clients, and when to plan again at the latest.

    `unplaced` says of each model that lacks an instance for want of a device why. `deferred` are the models whose
    launches were put off.
    """

    actions: list[Action] = field(default_factory=list)
    verdicts: dict[ModelKey, Verdict] = field(default_factory=dict)
    unplaced: dict[ModelKey, str] = field(default_factory=dict)
    deferred: set[ModelKey] = field(default_factory=set)
    wake_at: float = NEVER


def plan(
    wants: Mapping[ModelKey, Want],
    instances: Sequence[Instance],
    gpus: Sequence[Gpu],
    limits: Limits,
    now: float,
    contact_since: float | None,
) -> Plan:
    """One round of decisions.

    Args:
        wants: Every registered model version.
        instances: Every instance that has not ended.
        gpus: The GPUs that may be used.
        limits: Bounds from settings.
        now: Monotonic seconds.
        contact_since: Since when the batch manager has been heard without a break; None while it is away. Without it
            nobody can say which instances are alive or idle, so none is killed or retired for that.
    """
    return _Round(wants, instances, gpus, now, contact_since is not None).run(limits, contact_since)


class _Round:
    def __init__(
        self,
        wants: Mapping[ModelKey, Want],
        instances: Sequence[Instance],
        gpus: Sequence[Gpu],
        now: float,
        in_contact: bool,
    ) -> None:
        self.wants, self.instances, self.gpus, self.now, self.in_contact = wants, instances, gpus, now, in_contact
        self.result = Plan()
        self.faulted = {i.key for i in instances if i.fault}
        self.tenants = [_tenant(i) for i in instances if i.device != CPU]
        self.staying: list[Tenant] = []

    def run(self, limits: Limits, contact_since: float | None) -> Plan:
        groups: dict[ModelKey, list[Instance]] = {key: [] for key in self.wants}
        for instance in self.instances:
            want = self.wants.get(instance.key)
            action, due_at = _overdue(instance, want, limits, self.now, contact_since)
            self.result.wake_at = min(self.result.wake_at, due_at)
            if action is not None:
                self.result.actions.append(action)
                if isinstance(action, Kill) and action.fault:
                    self.faulted.add(instance.key)
            elif want is None:
                self.result.actions += _retire(instance, "its model is no longer registered")
            else:
                groups[instance.key].append(instance)
        changes: dict[ModelKey, scaling.Change] = {}
        for key, want in self.wants.items():
            changes[key] = scaling.change(want, groups[key], self.now, in_contact=self.in_contact)
            for instance in changes[key].retire:
                self.result.actions += _retire(instance, changes[key].reason)
        ending = {action.instance.id for action in self.result.actions if not isinstance(action, Launch)}
        for instance in self.instances:
            if instance.device != CPU and instance.state not in LEAVING and instance.id not in ending:
                self.staying.append(_tenant(instance))
        # Where devices are scarce, whoever waits comes first, and the higher priority of those.
        for want in sorted(self.wants.values(), key=lambda w: (not (w.load and w.load.queued), -w.spec.priority)):
            self._decide(want, groups[want.spec.key], changes[want.spec.key])
        return self.result

    def _decide(self, want: Want, group: list[Instance], change: scaling.Change) -> None:
        key, history, launches = want.spec.key, want.history, change.launches
        is_put_off = launches > 0 and (history.waits(self.now) or key in self.faulted)
        if is_put_off:
            launches = 0
        elif launches and history.is_load_failure:
            launches = 0 if any(i.state in STARTING and i.digest == want.digest for i in group) else 1
        launched = self._launch(want, launches)
        is_absent = not launched and not any(i.state in ACTIVE for i in group)
        if launched < launches or (is_absent and want.spec.run_on_gpu):
            obstacle = place(want.spec, self.gpus, self.tenants).reason
            if obstacle and not place(want.spec, self.gpus, self.staying).reason:
                obstacle = ""  # only instances that are leaving are in the way
                is_put_off |= launched < launches
            if obstacle:
                self.result.unplaced[key] = obstacle
                if launches and not change.retire:
                    self._make_room(want, group)
        if is_put_off:
            self.result.deferred.add(key)
        if history.waits(self.now):
            self.result.wake_at = min(self.result.wake_at, history.retry_at)
        is_coming = launched > 0 or (is_put_off and not history.waits(self.now))
        self.result.verdicts[key] = self._verdict(want, group, is_coming)

    def _launch(self, want: Want, count: int) -> int:
        """Launch up to `count` where there is room; how many it were."""
        for launched in range(count):
            device = place(want.spec, self.gpus, self.tenants).device
            if not device:
                return launched
            self.result.actions.append(Launch(want.spec, want.digest, device))
            if device != CPU:
                tenant = Tenant(device, *want.spec.key, want.spec.gpu_memory_mib)
                self.tenants.append(tenant)
                self.staying.append(tenant)
        return count

    def _make_room(self, want: Want, group: Sequence[Instance]) -> None:
        """Let an old instance of a changed model go first where no GPU can hold both, unless one is leaving already."""
        if any(i.state in LEAVING or i.state in STARTING for i in group):
            return
        old = [i for i in group if i.digest != want.digest and i.state is S.READY]
        if old:
            self.result.actions += _retire(old[0], "its model has changed, and there is no room for both")
            self.result.deferred.add(want.spec.key)

    def _verdict(self, want: Want, group: Sequence[Instance], is_coming: bool) -> Verdict:
        if any(i.state is S.READY for i in group):
            return Verdict("ready")
        if is_coming or any(i.state in STARTING for i in group):
            return Verdict("starting")
        unplaced = self.result.unplaced.get(want.spec.key)
        if unplaced:
            return Verdict("failing", f"model {want.spec.name!r} cannot be placed: {unplaced}", UNPLACED_RETRY_S)
        history = want.history
        if history.refuses(self.now):
            return Verdict("failing", history.error, history.retry_at - self.now)
        return Verdict("starting" if history.waits(self.now) else "idle")


def _tenant(instance: Instance) -> Tenant:
    return Tenant(instance.device, instance.model, instance.version, instance.gpu_memory_mib)


def _overdue(
    instance: Instance, want: Want | None, limits: Limits, now: float, contact_since: float | None
) -> tuple[Action | None, float]:
    """What to do with an instance that has been in its state for too long, or else when that will be."""
    if instance.state is S.DRAINING:
        timeout_s = want.spec.timeout_ms / 1e3 if want else 0.0
        at = instance.since + max(limits.drain_s, timeout_s)
        return (Stop(instance, "it was still busy at the end of its drain"), at) if now >= at else (None, at)
    if instance.state is S.STOPPING:
        at = instance.since + limits.grace_s
        return (Kill(instance, "it did not stop", instance.fault), at) if now >= at else (None, at)
    if contact_since is None:
        return None, NEVER
    if instance.state is S.LOADING:
        limit_s = want.spec.load_timeout_s if want else DEFAULT_LOAD_TIMEOUT_S
        at = max(instance.since, contact_since) + limit_s
        fault = f"did not become ready within {limit_s:g} s (load_timeout_s)"
        return (Kill(instance, fault, fault), at) if now >= at else (None, at)
    if instance.state is S.READY and now - instance.seen_at >= LOST_AFTER_S and now - contact_since >= limits.lost_s:
        fault = "stopped answering the batch manager"
        return Kill(instance, fault, fault), now
    return None, NEVER


def _retire(instance: Instance, reason: str) -> list[Action]:
    """End one instance in order; one that is being launched is dealt with when that is over."""
    if instance.state is S.READY:
        return [Drain(instance, reason)]
    if instance.state is S.LOADING:
        return [Stop(instance, reason)]
    return []
