"""The task manager's records, and what every event does to them.

Pure: callers pass `now`, perform the actions that `plan` returns and report what came of them. What to do is
planner.py's; sockets and threads are server.py's.
Invariants: an instance is recorded from the moment its launch is decided until its end is reported; each failure is
counted once; nothing is launched or ended before the running instances were adopted and the catalog is known.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from inferoxy import messages as m
from inferoxy.logs import get
from inferoxy.messages import InstanceState as S
from inferoxy.messages import ModelSpec
from task_manager import scaling
from task_manager.launchers.base import Exit, Running
from task_manager.placement import Gpu
from task_manager.planner import Action, Drain, Kill, Launch, Limits, Stop, Verdict, plan
from task_manager.requests import digest_of, new_instance_id
from task_manager.scaling import Want
from task_manager.states import ACTIVE, LEAVING, Instance, ModelKey

CONTACT_LOST_S = 3.5  # without LOADS the batch manager counts as away
KEPT_FAILURES = 20
SIGNAL_CODES = 128  # a container's exit codes above it stand for signals

log = get()


class Start(NamedTuple):
    """A launch to be performed, under this name."""

    instance: str
    launch: Launch


class Reconciler:
    """Wanted and running, side by side.

    Args:
        gpus: GPUs that may be used.
        limits: Bounds from settings.
        wall_clock: Seconds since 1970, for the age of instances that outlive this process.
        new_id: Names a new instance.
    """

    def __init__(
        self,
        gpus: Sequence[Gpu],
        limits: Limits,
        wall_clock: Callable[[], float],
        new_id: Callable[[ModelSpec], str] = new_instance_id,
    ) -> None:
        self.instances: dict[str, Instance] = {}
        self.wants: dict[ModelKey, Want] = {}
        self.verdicts: dict[ModelKey, Verdict] = {}
        self.revision = ""
        self.epoch = 0
        self.wake_at = float("inf")
        self._gpus, self._limits, self._wall_clock, self._new_id = gpus, limits, wall_clock, new_id
        self._is_adopted = False
        self._has_catalog = False
        self._contact_since: float | None = None
        self._heard_at = float("-inf")
        self._told: dict[ModelKey, Verdict] = {}
        self._unplaced: dict[ModelKey, str] = {}
        self._failures: deque[dict[str, Any]] = deque(maxlen=KEPT_FAILURES)
        self._away = ""

    # What the links say

    def on_catalog(self, catalog: m.Catalog, now: float) -> None:
        """Everything that is registered."""
        self._has_catalog = True
        self.revision = catalog.revision
        wants: dict[ModelKey, Want] = {}
        for spec in catalog.models:
            digest = digest_of(spec)
            want = self.wants.get(spec.key)
            if want is None:
                want = Want(spec, digest)
                self._roll(want)
            want.spec = spec
            if want.digest != digest:
                want.digest = digest
                want.is_unloaded = False
                want.history.forgive()
                self._roll(want)
            wants[spec.key] = want
        self.wants = wants

    def on_loads(self, loads: m.Loads, now: float) -> None:
        """What the queues and connected instances look like; a new epoch means that the batch manager has forgotten."""
        if loads.epoch != self.epoch or self._contact_since is None:
            self.epoch = loads.epoch
            self._contact_since = now
            self._told.clear()
        self._heard_at = now
        by_key = {(load.model, load.model_version): load for load in loads.loads}
        ready: Counter[ModelKey] = Counter()
        for key in [key for key in self._told if key not in by_key]:
            del self._told[key]  # the batch manager did not know the model when it was told
        for connected in loads.instances:
            self._seen(connected, now)
            ready[(connected.model, connected.model_version)] += not connected.draining
        for key, want in self.wants.items():
            want.load = by_key.get(key)
            if want.load is not None and want.load.queued:
                want.is_unloaded = False
            scaling.note_pressure(want, ready[key], now)

    def on_command(self, command: m.Command, now: float) -> None:
        """A person asks for an instance, or for none until the next request."""
        for want in self._meant(command):
            log.info("was told to " + command.action, model=want.spec.name, version=want.spec.version)
            if command.action == "load":
                want.is_unloaded = False
                want.history.forgive()
                want.owed = 0 if any(i.state in ACTIVE for i in self._group(want)) else 1
            else:
                want.owed = 0
                want.is_unloaded = True

    # What the launcher says

    def on_adopted(self, running: Iterable[Running], now: float) -> None:
        """These instances run already."""
        self._is_adopted = True
        for found in running:
            instance = Instance(
                id=found.instance,
                model=found.model,
                version=found.version,
                digest=found.digest,
                since=now,
                device=found.device,
                gpu_memory_mib=found.gpu_memory_mib,
                is_adopted=True,
            )
            self.instances[instance.id] = instance
            self._started(instance, found, now)
            log.info("adopted an instance", instance=instance.id, model=instance.model, where=instance.where)
        for want in self.wants.values():
            self._roll(want)

    def on_launched(self, running: Running, now: float) -> None:
        """A launch has succeeded; its instance may have ended already."""
        instance = self.instances.get(running.instance)
        if instance is None:
            return
        self._started(instance, running, now)
        log.info("launched an instance", instance=instance.id, model=instance.model, where=instance.where)

    def on_launch_failed(self, instance_id: str, error: str, now: float) -> None:
        """A launch has failed."""
        instance = self.instances.pop(instance_id)
        instance.move(S.FAILED, now)
        self._fail(instance, error, now, was_ready=False)

    def on_away(self, error: str) -> None:
        """The launcher cannot say what runs, or can again."""
        if error and not self._away:
            log.error("cannot see the instances", error=error)
        self._away = error

    def on_exit(self, ended: Exit, now: float) -> None:
        """An instance has ended."""
        instance = self.instances.pop(ended.instance, None)
        if instance is None:
            return
        ran_s = now - instance.ready_at if instance.ready_at else 0.0
        was, want = instance.state, self.wants.get(instance.key)
        # An instance ends itself, with code 0, when nobody needs it: it was let go, or has not heard the batch manager.
        is_in_order = ended.code == 0 and (was is S.READY or self._contact_since is None)
        if not instance.fault and (was in LEAVING or is_in_order):
            instance.move(S.EXITED, now)
            log.info("an instance has ended", instance=instance.id, model=instance.model, reason=ended.reason)
            if want is not None:
                want.history.ended(ran_s)
            return
        instance.move(S.FAILED, now)
        what = instance.fault or ended.reason
        was_ready = bool(instance.ready_at) or instance.is_adopted
        if not was_ready and not instance.fault and _is_violent(ended.code) and want is not None:
            want.killed_unseen += 1
            was_ready = want.killed_unseen == 1
        if not instance.ready_at and not instance.fault:
            what += " before it was seen to be ready"
        error = f"instance {instance.id} {what}"
        if ended.log_tail:
            error += "; the end of its log:\n" + "\n".join(ended.log_tail)
        self._fail(instance, error, now, was_ready, ran_s)

    # What to do

    def plan(self, now: float) -> list[Start | Drain | Stop | Kill]:
        """Decide; records are as if the actions had been performed. `verdicts` and `wake_at` are new afterwards."""
        if now - self._heard_at > CONTACT_LOST_S and self._contact_since is not None:
            log.warning("the batch manager is silent")
            self._contact_since = None
            for want in self.wants.values():
                want.load = None
                want.pressed_since = None
        if not (self._is_adopted and self._has_catalog):
            self.wake_at = float("inf")
            if self._away:
                self.verdicts = dict.fromkeys(self.wants, Verdict("failing", self._away, 1.0))
            return []
        made = plan(self.wants, list(self.instances.values()), self._gpus, self._limits, now, self._contact_since)
        self.verdicts, self.wake_at, self._unplaced = made.verdicts, made.wake_at, made.unplaced
        for key, want in self.wants.items():
            if key not in made.deferred:
                want.owed = 0
        return [self._apply(action, now) for action in made.actions]

    def end_all(self, now: float) -> list[str]:
        """Everything is to end: the instances that must be told to stop; those being launched come later."""
        told = [i for i in self.instances.values() if i.state not in (S.LAUNCHING, S.STOPPING)]
        for instance in told:
            instance.move(S.STOPPING, now)
        return [instance.id for instance in told]

    def conditions(self) -> list[m.Condition]:
        """What the batch manager has not been told yet; it counts as told from now on."""
        if self._contact_since is None:
            return []
        changed: list[m.Condition] = []
        for key, verdict in self.verdicts.items():
            told = self._told.get(key)
            if told is None or told[:2] != verdict[:2]:
                self._told[key] = verdict
                changed.append(m.Condition(model=key[0], model_version=key[1], **verdict._asdict()))
        return changed

    def draining(self) -> list[str]:
        """Instances that a new batch manager must be told about."""
        return [i.id for i in self.instances.values() if i.state is S.DRAINING]

    def report(self, now: float) -> dict[str, Any]:
        """For `inferoxy status`; JSON-able."""
        clock = self._wall_clock()
        instances = [
            {
                "id": i.id,
                "model": i.model,
                "version": i.version,
                "state": str(i.state),
                "device": i.device,
                "where": i.where,
                "age_s": round(clock - i.started_at, 1) if i.started_at else 0.0,
                "in_flight": i.in_flight,
                "sequences": i.sequences,
                "adopted": i.is_adopted,
                "error": i.fault,
                "log": i.log,
            }
            for i in self.instances.values()
        ]
        models = [
            {
                "model": key[0],
                "version": key[1],
                "state": verdict.state,
                "error": verdict.error,
                "retry_s": round(verdict.retry_s, 1),
                "failures": self.wants[key].history.failures + self.wants[key].history.crashes,
                "last_error": self.wants[key].history.error,
                "unplaced": self._unplaced.get(key, ""),
            }
            for key, verdict in self.verdicts.items()
            if key in self.wants
        ]
        return {
            "batch_manager": "away" if self._contact_since is None else "connected",
            "launcher_error": self._away,
            "gpus": [{"id": gpu.id, "memory_mib": gpu.memory_mib} for gpu in self._gpus],
            "instances": instances,
            "models": models,
            "failures": list(self._failures),
        }

    # Records

    def _seen(self, connected: m.ConnectedInstance, now: float) -> None:
        instance = self.instances.get(connected.instance)
        if instance is None:
            return
        instance.seen_at = now
        instance.idle_s, instance.in_flight = connected.idle_s, connected.in_flight
        instance.sequences = connected.sequences
        if instance.state is not S.LOADING:
            return
        instance.move(S.READY, now)
        instance.ready_at = now
        took_s = 0.0 if instance.is_adopted else now - instance.launched_at
        if instance.key in self.wants:
            self.wants[instance.key].history.loaded(took_s)
            self.wants[instance.key].killed_unseen = 0
        log.info("an instance is ready", instance=instance.id, model=instance.model, took_s=round(took_s, 3))

    def _started(self, instance: Instance, running: Running, now: float) -> None:
        instance.move(S.LOADING, now)
        instance.where, instance.log, instance.started_at = running.where, running.log, running.started_at

    def _fail(self, instance: Instance, error: str, now: float, was_ready: bool, ran_s: float = 0.0) -> None:
        # Whoever reads this error has asked for a model, not for an instance.
        error = error if error.startswith("model ") else f"model {instance.model!r}: {error}"
        log.error("an instance has failed", instance=instance.id, model=instance.model, error=error)
        self._failures.append(
            {
                "id": instance.id,
                "model": instance.model,
                "version": instance.version,
                "at": self._wall_clock(),
                "error": error,
                "log": instance.log,
            }
        )
        want = self.wants.get(instance.key)
        if want is None or (instance.digest != want.digest and not was_ready):
            return  # a form that nobody wants any more says nothing about the present one
        if not was_ready:
            want.history.load_failed(error, instance.launched_at, now)
            return
        is_first = not (want.history.failures or want.history.crashes)
        if is_first and not want.is_unloaded and instance.idle_s < want.spec.keep_warm_s:
            want.owed += 1
        want.history.crashed(error, instance.launched_at, ran_s, now)

    def _apply(self, action: Action, now: float) -> Start | Drain | Stop | Kill:
        if isinstance(action, Launch):
            spec = action.spec
            instance = Instance(
                id=self._new_id(spec),
                model=spec.name,
                version=spec.version,
                digest=action.digest,
                since=now,
                device=action.device,
                gpu_memory_mib=spec.gpu_memory_mib,
                launched_at=now,
            )
            self.instances[instance.id] = instance
            return Start(instance.id, action)
        instance = action.instance
        if isinstance(action, Drain):
            instance.move(S.DRAINING, now)
        elif instance.state is S.STOPPING:
            instance.since = now
        else:
            instance.move(S.STOPPING, now)
        if isinstance(action, Kill):
            instance.fault = action.fault
        log.info("ends an instance", instance=instance.id, how=type(action).__name__.lower(), reason=action.reason)
        return action

    def _group(self, want: Want) -> list[Instance]:
        return [i for i in self.instances.values() if i.key == want.spec.key]

    def _roll(self, want: Want) -> None:
        """Note how many instances of an older form there are to be replaced."""
        active = [i for i in self._group(want) if i.state in ACTIVE]
        want.rolling = len(active) if any(i.digest != want.digest for i in active) else 0

    def _meant(self, command: m.Command) -> list[Want]:
        named = [w for w in self.wants.values() if w.spec.name == command.model]
        if command.model_version:
            return [w for w in named if w.spec.version == command.model_version]
        return [w for w in named if w.spec.default] or named if command.action == "load" else named


def _is_violent(code: int | None) -> bool:
    """Ended by a signal, or nobody knows how. Such an end need not say anything of loading: since the batch manager
    was last heard, the instance may have become ready, and its first batch may have killed it. Twice in a row it does.
    """
    return code is None or code < 0 or code > SIGNAL_CODES
