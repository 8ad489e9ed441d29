"""The batch manager's decisions: takes messages in, gives what is to be sent.

Pure: callers pass `now`; `handle` consumes one message, `wake` the passing of time, and `take_sends` gives what is to
be sent. What becomes of a request is serving.py's; sockets and frames are broker.py's.
Invariant: a request that was running when its instance was lost is sent once more, alone, and never a third time.
"""

from collections.abc import Callable
from typing import Any

from batch_manager import reports
from batch_manager.catalog import ModelTable
from batch_manager.devices import Devices
from batch_manager.dispatcher import Instance, InstanceMode
from batch_manager.model_state import ModelState
from batch_manager.queues import Pending, State
from batch_manager.sends import Link, Send
from batch_manager.serving import Serving
from batch_manager.telemetry import Telemetry
from inferoxy import messages as m
from inferoxy import wire
from inferoxy.errors import Code
from inferoxy.kept import Kept

TICK_S = 0.25  # busy instances are probed and silence is noticed this often
MODELS_DELAY_S = 0.01  # changes that come together are shown together
SECOND_S = 1.0  # heartbeats of idle instances, loads, rates
BRIDGE_LOST_S = 30.0
CATALOG_WAIT_S = 30.0  # the time a request gets whose model cannot be looked up yet
MAX_DEATHS = 2  # instances that one request may take down with it
HANG_FACTOR = 20  # times longer than predicted
MAX_HUNG = 1_024  # instances whose hanging is remembered


class BatchManager:
    """The state of one batch manager.

    Args:
        epoch: Names this run; never 0, different from the last run's.
        secret: Proves which instance may serve which model; empty: not checked.
        lost_s: Silence after which an instance counts as lost.
        now: Monotonic seconds.
        cpu_slots: Batches that may run on the CPU at a time; 0: any number.
        gpu_slots: The same for each GPU.
        telemetry: Told of everything that happens to requests.
    """

    def __init__(
        self,
        epoch: int,
        *,
        secret: str = "",
        lost_s: float = 5.0,
        now: float = 0.0,
        cpu_slots: int = 0,
        gpu_slots: int = 0,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.epoch = epoch
        self.table = ModelTable()
        self.instances: dict[bytes, Instance] = {}
        self.revision = 0
        self._secret = secret
        self._lost_s = lost_s
        self._serving = Serving((epoch & 0xFFFFFFFF) << 28, self._send_loads, telemetry)
        self._devices = Devices(cpu_slots, gpu_slots)
        self._hung: Kept[bytes, str] = Kept(MAX_HUNG)  # instances that must not come back
        self._requests = self._serving.requests
        self._held: list[Pending] = []
        self._bridges: dict[bytes, dict[str, Any]] = {}
        self._task_manager = b""
        self._models_at = float("inf")  # when bridges are to be told of changed models
        self._tick_at = now + TICK_S
        self._second_at = now + SECOND_S
        self._handlers: dict[type, Callable[[bytes, Any, Any, float], None]] = {
            m.Requests: self._on_requests,
            m.Request: self._on_request,
            m.Result: self._on_result,
            m.Cancel: self._on_cancel,
            m.Ping: self._on_ping,
            m.Gone: self._on_gone,
            m.Command: self._on_command,
            m.AskStatistics: self._on_ask_statistics,
            m.Hello: self._on_hello,
            m.Heartbeat: self._on_heartbeat,
            m.Stop: self._on_stop,
            m.Attach: self._on_attach,
            m.Drain: self._on_drain,
            m.Condition: self._on_condition,
            m.Catalog: self._on_catalog,
        }

    # What the broker calls

    def handle(self, peer: bytes, header: m.Header, frames: Any, now: float) -> None:
        """Consume one message from a peer; the broker has seen to it that this kind may come from there."""
        self._handlers[type(header)](peer, header, frames, now)

    def take_sends(self) -> list[Send]:
        """Remove and return what is to be sent, in order."""
        return self._serving.take_sends()

    def next_wakeup(self) -> float:
        """The instant at which `wake` has something to do."""
        return min(self._tick_at, self._models_at, self._serving.next_wakeup())

    def wake(self, now: float) -> None:
        """Do what time has made due: expiries, delayed batches, heartbeats, figures."""
        self._serving.wake(now)
        if now >= self._models_at:
            self._show_models()
        if now >= self._tick_at:
            self._tick(now)

    def unreachable(self, link: Link, peer: bytes, now: float) -> None:
        """A send found no such peer: an instance's process or a bridge is gone."""
        if link is Link.BACKEND and peer in self.instances:
            self._lose(self.instances[peer], "its connection was closed", now)
        elif link is Link.FRONTEND:
            self._forget_bridge(peer, now)
        elif link is Link.CONTROL and peer == self._task_manager:
            self._task_manager = b""

    def in_flight(self) -> int:
        """Requests that instances hold."""
        return sum(batch.open for i in self.instances.values() for batch in i.in_flight.values())

    def report(self, now: float) -> dict[str, Any]:
        """For `inferoxy status`: queues and rates by model, JSON-able."""
        return {
            "models": [reports.of_model(state, now) for state in self.table.states.values()],
            "open_requests": self._requests.count,
            "instances": len(self.instances),
            "devices": [device.report() for device in self._devices.by_name.values()],
            "bridges": {peer.decode("ascii", "replace"): report for peer, report in self._bridges.items()},
        }

    def _on_requests(self, peer: bytes, header: m.Requests, frames: Any, now: float) -> None:
        for request, own in wire.each(header, frames):
            self._on_request(peer, request, own, now)

    def _on_request(self, peer: bytes, header: m.Request, frames: Any, now: float) -> None:
        model = self.table.find(header.model, header.model_version)
        timeout_s = header.timeout_us / 1e6 or (model.spec.timeout_ms / 1e3 if model else CATALOG_WAIT_S)
        pending = self._requests.open(peer, header, frames, now, now + timeout_s)
        if pending is None:
            return
        if model is None and not self.table.complete:
            self._held.append(pending)
            return
        self._place(model, pending, now)

    def _place(self, model: ModelState | None, pending: Pending, now: float) -> None:
        if model is None:
            self._serving.fail(pending, Code.MODEL_NOT_FOUND, self.table.unknown(pending.header), now)
        else:
            self._serving.accept(model, pending, now)

    def _on_cancel(self, peer: bytes, header: m.Cancel, frames: Any, now: float) -> None:
        for request_id in header.ids:
            pending = self._requests.find(peer, request_id)
            if pending is not None:
                self._serving.fail(pending, Code.CANCELLED, "cancelled by the client", now)

    def _on_result(self, peer: bytes, header: m.Result, frames: Any, now: float) -> None:
        instance = self.instances.get(peer)
        if instance is None:
            self._send(Link.BACKEND, peer, m.Who(epoch=self.epoch))
            return
        instance.seen_at = now
        self._serving.result(instance, header, frames, now)
        if instance.mode is InstanceMode.DRAINING:
            self._release_if_free(instance, now)

    def _send(self, link: Link, peer: bytes, header: m.Header) -> None:
        self._serving.turns.sends.append(Send(link, peer, header))

    # Instances

    def _on_hello(self, peer: bytes, header: m.Hello, frames: Any, now: float) -> None:
        state = self.table.find(header.model, header.model_version)
        if state is None and not self.table.complete:
            return  # it says HELLO again soon, and by then the catalog may be here
        error = ""
        if self._secret:
            token = wire.instance_token(self._secret, header.instance, header.model, header.model_version)
            if token != header.token:
                error = f"instance {header.instance}: its token does not allow model {header.model!r}"
        if state is None:
            error = error or f"model {header.model!r} version {header.model_version!r} is not registered"
        error = error or self._hung.get(peer, "")
        if state is None or error:
            self._send(Link.BACKEND, peer, m.Welcome(epoch=self.epoch, error=error))
            return
        known = self.instances.get(peer)
        if known is not None and known.in_flight:
            known.seen_at = now  # a HELLO that crossed our WELCOME: it has batches to finish
        else:
            if known is not None:
                known.state.dispatcher.remove(known)
                known.device.left(known)
                why = f"instance {known.name} began anew"
                self._serving.lose_steps(state, state.sequences.lost(known, why), why, now)
            instance = Instance(peer, header, state, self._devices.get(header.device or "cpu"), now)
            self.instances[peer] = instance
            state.dispatcher.add(instance)
            is_news = state.hello is None
            state.introduce(header, now)
            instance.device.joined(state)
            state.demanded = False
            self._models_change(now)
            if is_news:
                self._models_at = now  # bridges know what the model is before they get its first answer
        self._send(Link.BACKEND, peer, m.Welcome(epoch=self.epoch, heartbeat_s=SECOND_S))
        for pending in state.queue.misfits():
            self._serving.fail(pending, Code.INVALID_REQUEST, state.wrong_rows(pending), now)
        self._serving.turns.dispatch(state, now)
        self._serving.turns.watch(state)
        self._send_loads(now)

    def _on_heartbeat(self, peer: bytes, header: m.Heartbeat, frames: Any, now: float) -> None:
        instance = self.instances.get(peer)
        if instance is None:
            self._send(Link.BACKEND, peer, m.Who(epoch=self.epoch))
        else:
            instance.seen_at = now

    def _on_stop(self, peer: bytes, header: m.Stop, frames: Any, now: float) -> None:
        instance = self.instances.get(peer)
        if instance is None:
            self._send(Link.BACKEND, peer, m.Stop())
            return
        instance.is_leaving = True
        instance.state.dispatcher.drain(instance)
        self._release_if_free(instance, now)

    def _on_drain(self, peer: bytes, header: m.Drain, frames: Any, now: float) -> None:
        for instance in list(self.instances.values()):
            if instance.name == header.instance:
                instance.state.dispatcher.drain(instance)
                self._release_if_free(instance, now)

    def _release_if_free(self, instance: Instance, now: float) -> None:
        """Tell a draining instance to end once it owes nothing; one that leaves by itself drops its sequences."""
        if instance.in_flight or (instance.sequences and not instance.is_leaving):
            return
        self._send(Link.BACKEND, instance.peer, m.Stop())
        self._remove(instance, "it was stopped", now)

    def _lose(self, instance: Instance, why: str, now: float) -> None:
        """The instance is gone: what it had not begun waits again, what it was running is tried once more, alone."""
        state: ModelState = instance.state
        lost = f"instance {instance.name} was lost: {why}"
        waiting = state.sequences.lost(instance, lost)
        for position, batch in enumerate(list(instance.in_flight.values())):
            for pending in batch.requests:
                if pending is None:
                    continue
                pending.is_suspect = True
                if pending.is_held:
                    self._serving.release(pending, m.SlotFate.SUSPECT)
                if pending.state is not State.IN_FLIGHT:
                    continue
                if not state.spec.stateless:
                    self._serving.lose_steps(state, [pending], lost, now)
                    continue
                pending.deaths += position == 0
                if pending.deaths >= MAX_DEATHS or pending.is_partial:
                    message = f"instance {instance.name} was lost while it ran this request: {why}"
                    self._serving.fail(pending, Code.INSTANCE_LOST, message, now)
                else:
                    pending.queued_at = now
                    state.queue.push(pending)
        self._serving.lose_steps(state, waiting, lost, now)
        instance.in_flight.clear()
        self._remove(instance, why, now)

    def _remove(self, instance: Instance, why: str, now: float) -> None:
        state: ModelState = instance.state
        self.instances.pop(instance.peer, None)
        state.dispatcher.remove(instance)
        state.part()
        self._serving.turns.rest(instance, now)
        instance.device.left(instance)
        lost = f"instance {instance.name} was lost: {why}"
        self._serving.lose_steps(state, state.sequences.lost(instance, lost), lost, now)
        self._models_change(now)
        if not state.dispatcher.all and state.waiting:
            state.demanded = True
        self._send_loads(now)
        self._serving.turns.dispatch(state, now)

    # Models, bridges and the task manager

    def _on_catalog(self, peer: bytes, header: m.Catalog, frames: Any, now: float) -> None:
        for state in self.table.apply(header.models, now):
            waiting = state.queue.drain() + state.sequences.drain("its model is no longer registered")
            self._serving.turns.tell_endings(state)
            for pending in waiting:
                pending.state = State.NEW
                self._serving.fail(pending, Code.MODEL_NOT_FOUND, self.table.unknown(pending.header), now)
            for instance in state.dispatcher.all.values():
                instance.mode = InstanceMode.DRAINING
        held, self._held = self._held, []
        for pending in held:
            if pending.state is State.NEW:
                self._place(self.table.find(pending.header.model, pending.header.model_version), pending, now)
        self._models_change(now)

    def _on_ping(self, peer: bytes, header: m.Ping, frames: Any, now: float) -> None:
        self._requests.seen(peer, now)
        if header.report:
            self._bridges[peer] = header.report
        self._send(Link.FRONTEND, peer, m.Pong(epoch=self.epoch))
        if header.revision != self.revision and self.table.complete:
            self._send(Link.FRONTEND, peer, self._models())

    def _models(self) -> m.Models:
        return m.Models(revision=self.revision, models=self.table.views(), complete=self.table.complete)

    def _models_change(self, now: float) -> None:
        self._models_at = min(self._models_at, now + MODELS_DELAY_S)

    def _show_models(self) -> None:
        self._models_at = float("inf")
        self.revision += 1
        view = self._models()
        for bridge in self._requests.peers():
            self._send(Link.FRONTEND, bridge, view)

    def _forget_bridge(self, peer: bytes, now: float) -> None:
        self._bridges.pop(peer, None)
        for pending in self._requests.forget(peer):
            self._serving.fail(pending, Code.CANCELLED, "its bridge is gone", now)

        whose = peer.decode("ascii", "replace") + ":"
        for state in self.table.states.values():
            self._end_clients(state, [c for c in state.sequences.clients() if c.startswith(whose)], now)

    def _on_gone(self, peer: bytes, header: m.Gone, frames: Any, now: float) -> None:
        for state in self.table.states.values():
            if not state.spec.stateless:
                self._end_clients(state, header.clients, now)

    def _on_command(self, peer: bytes, header: m.Command, frames: Any, now: float) -> None:
        """A client loads or unloads a model: the task manager does that."""
        answer = m.Commanded(id=header.id)
        if not self._task_manager:
            answer.code, answer.error = Code.MODEL_UNAVAILABLE, f"cannot {header.action}: the task manager is away"
        elif self.table.find(header.model, header.model_version) is None:
            answer.code, answer.error = Code.MODEL_NOT_FOUND, f"model {header.model!r} is not registered"
        else:
            self._send(Link.CONTROL, self._task_manager, header)
        self._send(Link.FRONTEND, peer, answer)

    def _on_ask_statistics(self, peer: bytes, header: m.AskStatistics, frames: Any, now: float) -> None:
        asked = [
            reports.statistics_of(state, now)
            for (name, version), state in self.table.states.items()
            if header.model in ("", name) and header.model_version in ("", version)
        ]
        self._send(Link.FRONTEND, peer, m.Statistics(id=header.id, models=asked))

    def _end_clients(self, state: ModelState, clients: list[str], now: float) -> None:
        for client in clients:
            for step in state.sequences.gone(client):
                self._serving.fail(step, Code.CANCELLED, "its client has left", now)
        self._serving.turns.tell_endings(state)
        if clients:
            self._serving.turns.dispatch(state, now)

    def _on_attach(self, peer: bytes, header: m.Attach, frames: Any, now: float) -> None:
        if peer != self._task_manager:
            self._task_manager = peer
            self._send_loads(now)

    def _on_condition(self, peer: bytes, header: m.Condition, frames: Any, now: float) -> None:
        state = self.table.find(header.model, header.model_version)
        if state is None:
            return
        changed = (state.condition.state, state.condition.error) != (header.state, header.error)
        state.condition = header
        if changed:
            self._models_change(now)
        if header.state == "failing" and not state.dispatcher.all:
            state.demanded = False
            for pending in state.queue.drain() + state.sequences.drain("its model cannot be started"):
                pending.state = State.NEW
                self._serving.fail(pending, Code.MODEL_UNAVAILABLE, header.error, now, "unavailable")
        elif header.state == "idle":
            state.demanded = False

    def _send_loads(self, now: float) -> None:
        if not self._task_manager:
            return
        loads = [state.load(now) for state in self.table.states.values()]
        connected = [reports.of_instance(instance, now) for instance in self.instances.values()]
        header = m.Loads(epoch=self.epoch, loads=loads, instances=connected)
        self._send(Link.CONTROL, self._task_manager, header)

    def _tick(self, now: float) -> None:
        is_second = now >= self._second_at
        for instance in list(self.instances.values()):
            if now - instance.seen_at > self._lost_s:
                self._lose(instance, f"no sign of life for {now - instance.seen_at:.1f} s", now)
            elif instance.in_flight and now - instance.began_at > self._hang_s(instance):
                why = f"it has computed for {now - instance.began_at:.1f} s on one batch"
                self._hung.keep(instance.peer, f"instance {instance.name}: {why}")
                self._lose(instance, why, now)
            elif instance.in_flight or is_second:
                self._send(Link.BACKEND, instance.peer, m.Heartbeat(epoch=self.epoch))
        if is_second:
            self._second(now)
        self._tick_at = now + TICK_S

    def _hang_s(self, instance: Instance) -> float:
        """How long its batch may take until the instance counts as hanging.

        While somebody waits for it, much longer than such batches take; what was never timed may take any time.
        """
        state: ModelState = instance.state
        batch = next(iter(instance.in_flight.values()))
        limit_s = state.spec.timeout_ms / 1e3
        if any(pending is not None and pending.state is State.IN_FLIGHT for pending in batch.requests):
            if not state.service.is_known:
                return float("inf")
            limit_s = max(limit_s, HANG_FACTOR * state.service.predict(batch.size))
        return limit_s + self._lost_s

    def _second(self, now: float) -> None:
        elapsed = now - self._second_at + SECOND_S
        self._second_at = now + SECOND_S
        for state in self.table.states.values():
            state.figures.tick(elapsed)
            if not state.spec.stateless:
                state.sequences.expire(now)
                self._serving.turns.tell_endings(state)
                self._serving.turns.dispatch(state, now)
                for instance in list(state.dispatcher.finishing.values()):
                    self._release_if_free(instance, now)
        for peer in self._requests.silent(now, BRIDGE_LOST_S):
            self._forget_bridge(peer, now)
        for peer in self._requests.silent(now, SECOND_S):
            self._send(Link.FRONTEND, peer, m.Pong(epoch=self.epoch))  # which finds out whether it is gone
        self._send_loads(now)
