"""What becomes of a request: accepted or refused, batched, sent, answered.

Pure. Who is connected and what is registered is core.py's. This is the hot path: nothing here reads a tensor, looks at
other models, or costs more with more models, instances or requests (heaps aside).
A batch that cannot start at once, because its device has no slot for it or has models to protect, is claimed there
(devices.py) and started when its turn comes.
Invariants: an accepted request gets exactly one final answer; an expired or cancelled one is never sent to an instance
afterwards.
"""

import heapq
from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple

from batch_manager.devices import Device
from batch_manager.dispatcher import InFlight, Instance, InstanceMode
from batch_manager.model_state import ModelState
from batch_manager.queues import Pending, State
from batch_manager.request_table import RequestTable
from batch_manager.telemetry import Telemetry
from inferoxy import messages as m
from inferoxy.errors import Code, InferoxyError

LEARN_EVERY_S = 0.002  # the times of quick batches are learned from samples
_LOAD = frozenset({Code.QUEUE_FULL, Code.SHED, Code.DEADLINE_EXCEEDED})  # what too much load does to requests


class Link(IntEnum):
    """Which socket a message goes to."""

    FRONTEND = 0
    BACKEND = 1
    CONTROL = 2


class Send(NamedTuple):
    """One message for one peer."""

    link: Link
    peer: bytes
    header: m.Header
    frames: Any = ()


class Serving:
    """Open requests and the batches they are in.

    Args:
        first_batch_id: Batch ids count from here; those of an earlier run must not come again.
        on_demand: Called when requests wait for an instance that is not there.
        telemetry: Told of everything that happens to requests.
    """

    def __init__(
        self, first_batch_id: int, on_demand: Callable[[float], None], telemetry: Telemetry | None = None
    ) -> None:
        self.telemetry = telemetry
        self.requests = RequestTable()
        self.sends: list[Send] = []
        self._touched: dict[ModelState, float] = {}  # models with something to dispatch, and since when
        self._shared: dict[Device, float] = {}  # devices on which it may be somebody's turn, and since when
        self._rechecks: dict[Device, None] = {}  # devices on which it may become somebody's turn by itself
        self._answers: dict[bytes, tuple[list[m.Response], list[Any]]] = {}  # by bridge
        self._on_demand = on_demand
        self._batch_id = first_batch_id
        self._due: list[tuple[float, int, ModelState]] = []
        self._due_count = 0

    def next_wakeup(self) -> float:
        """The instant at which `wake` has something to do."""
        at = self.requests.next_deadline()
        if self._rechecks:
            at = min(at, *[device.recheck_at for device in self._rechecks])
        return min(at, self._due[0][0]) if self._due else at

    def wake(self, now: float) -> None:
        """Answer what has expired or become hopeless, and start the batches whose time has come."""
        while (late := self.requests.take_expired(now)) is not None:
            self.fail(late, Code.DEADLINE_EXCEEDED, _why_late(late, now), now, "deadline")
        while self._due and self._due[0][0] <= now:
            at, _, model = heapq.heappop(self._due)
            if at >= model.due_at:
                model.due_at = float("inf")
            if at >= model.hopeless_at:
                model.hopeless_at = float("inf")
            self.dispatch(model, now)
            self._shed_hopeless(model, now)
        for device in [device for device in self._rechecks if device.recheck_at <= now]:
            self._shared[device] = now

    def accept(self, model: ModelState, pending: Pending, now: float) -> None:
        """Queue an open request for its model, or answer it at once when it cannot be queued."""
        spec = model.spec
        pending.model = model
        if not pending.priority:
            pending.priority = spec.priority
        if spec.latency_budget_ms:
            pending.due_at = min(pending.deadline, now + model.budget_s)
        model.active_at = now
        if model.condition.state == "failing" and not model.dispatcher.all:
            self.fail(pending, Code.MODEL_UNAVAILABLE, model.condition.error, now, "unavailable")
            return
        if not self._fits(model, pending, now):
            return
        model.figures.arrived()
        if model.is_guarded:
            model.rhythm.arrived(now, model.budget_s, model.service.predict(1))
        if spec.stateless:
            model.queue.push(pending)
            if spec.latency_budget_ms and model.dispatcher.all and model.hopeless_at == float("inf"):
                self.watch(model)
        else:
            try:
                replaced = model.sequences.push(pending, now)
            except InferoxyError as exc:
                self.fail(pending, exc.code, exc.message, now, "sequence")
                return
            self.lose_steps(model, replaced, "it was started anew", now)
        if self.telemetry is not None:
            self.telemetry.enqueued(pending, model.waiting, now)
        if model.dispatcher.all:
            self._touch(model, now)
        elif not model.demanded:
            model.demanded = True
            self._on_demand(now)

    def _fits(self, model: ModelState, pending: Pending, now: float) -> bool:
        """Whether the request may enter the queue; if not it is answered, or another is dropped in its favour."""
        header, spec = pending.header, model.spec
        if model.queue.stacked and not 1 <= header.rows <= model.queue.limit:
            self.fail(pending, Code.INVALID_REQUEST, _wrong_rows(model, pending), now)
            return False
        by_count = model.waiting >= spec.queue_size
        by_bytes = model.waiting > 0 and model.waiting_bytes + header.size > spec.queue_mib << 20
        if not by_count and not by_bytes:
            return True
        reason = "queue_size" if by_count else "queue_mib"
        limit = f"{reason} {spec.queue_size if by_count else spec.queue_mib}"
        victim = self._victim(model, pending)
        if victim is None:
            why = f"model {spec.name!r}: its queue is full ({limit})"
            self.fail(pending, Code.QUEUE_FULL, why, now, reason)
            return False
        for_whom = "a request of higher priority" if victim.priority < pending.priority else "a newer request"
        self.fail(victim, Code.SHED, f"model {spec.name!r}: dropped for {for_whom} ({limit})", now, reason)
        return True

    @staticmethod
    def _victim(model: ModelState, newcomer: Pending) -> Pending | None:
        """The waiting request that has to go for a newcomer to a full queue; None: the newcomer itself."""
        spec, queue = model.spec, model.queue
        if not spec.stateless:
            return None
        if newcomer.priority > spec.priority:
            worst = queue.worst()
            if worst is not None and worst.priority < newcomer.priority:
                return worst
        if spec.drop_policy == "reject":
            return None
        return queue.oldest() if spec.drop_policy == "drop_oldest" else queue.newest()

    def _shed_hopeless(self, model: ModelState, now: float) -> None:
        """Answer the waiting requests that can no longer make the model's latency budget: others still can."""
        if not model.spec.stateless or not model.spec.latency_budget_ms or not model.dispatcher.all:
            return
        while (oldest := model.queue.oldest()) is not None and model.latest_start(oldest) <= now:
            waited_ms = (now - oldest.arrived_at) * 1e3
            why = (
                f"model {model.spec.name!r}: shed after {waited_ms:.0f} ms in the queue, too late for its "
                f"latency_budget_ms {model.spec.latency_budget_ms:g}"
            )
            self.fail(oldest, Code.SHED, why, now, "latency_budget_ms")
        self.watch(model)

    def watch(self, model: ModelState) -> None:
        """See to it that `wake` looks at this model when its oldest request becomes hopeless."""
        oldest = model.queue.oldest()
        if oldest is not None and model.spec.latency_budget_ms:
            at = model.latest_start(oldest)
            if at < model.hopeless_at:
                model.hopeless_at = at
                self._wake_at(at, model)

    def _claim(self, model: ModelState, now: float) -> None:
        """Wait for a slot on every device with an idle instance, or for the batch to be due."""
        if not model.is_due(now):
            self._wake_when_due(model)
            return
        for device, there in model.dispatcher.idle_on.items():
            if there:
                device.claim(model)
                self._shared[device] = now

    def _wake_when_due(self, model: ModelState) -> None:
        at = model.batcher.due_at()
        if at is not None and at < model.due_at:
            model.due_at = at
            self._wake_at(at, model)

    def _wake_at(self, at: float, model: ModelState) -> None:
        self._due_count += 1
        heapq.heappush(self._due, (at, self._due_count, model))

    def dispatch(self, model: ModelState, now: float) -> None:
        """Send the model's instances what is due, or claim slots for it."""
        if not model.spec.stateless:
            self._dispatch_steps(model, now)
            return
        dispatcher, batcher = model.dispatcher, model.batcher
        while model.queue.count and dispatcher.idle:
            for device, there in dispatcher.idle_on.items():
                if there and device.is_open(model):
                    break
            else:
                self._claim(model, now)
                return
            if not self._start(model, device, None, now):
                self._wake_when_due(model)
                return
        while dispatcher.busy and model.queue.is_full():
            instance = dispatcher.pick_busy()
            if not instance.device.is_quiet(model):
                return
            self._send_batch(model, instance, batcher.take_full(), m.CloseReason.FULL, now)

    def _dispatch_steps(self, model: ModelState, now: float) -> None:
        """The same for a stateful model."""
        sequences = model.sequences
        if sequences.wants_place:
            sequences.assign(model.free_for_sequences())
        if sequences.waiting() and not model.demanded:
            model.demanded = True
            self._on_demand(now)
        if sequences.endings:
            self.tell_endings(model)
        for instance in sequences.take_due():
            if instance.in_flight or instance.mode is InstanceMode.LEFT or sequences.first(instance) is None:
                continue
            if instance.device.is_open(model):
                self._start_steps(model, instance, None, now)
            else:
                instance.device.claim(model, instance)
                self._shared[instance.device] = now

    def _share(self, device: Device, now: float) -> None:
        """Start what may start on a device whose slots are scarce, in order."""
        while (turn := device.pick(now)) is not None:
            claim = turn.claim
            if claim.instance is not None:
                self._start_steps(claim.model, claim.instance, turn.at_most, now)
            else:
                self._start(claim.model, device, turn.at_most, now)
                self._touch(claim.model, now)
        if device.recheck_at < float("inf"):
            self._rechecks[device] = None
        else:
            self._rechecks.pop(device, None)

    def _start(self, model: ModelState, device: Device, at_most: int | None, now: float) -> bool:
        """Send an idle instance on this device a batch, if one is due."""
        due = model.batcher.take(now, at_most)
        if due is None:
            return False
        self._send_batch(model, model.dispatcher.pick_idle(device), due[0], due[1], now)
        return True

    def _start_steps(self, model: ModelState, instance: Instance, at_most: int | None, now: float) -> None:
        steps = model.sequences.take(instance, at_most)
        if steps:
            is_full = len(steps) >= model.sequences.limit
            self._send_batch(model, instance, steps, m.CloseReason.FULL if is_full else m.CloseReason.IDLE, now)

    def tell_endings(self, model: ModelState) -> None:
        """Tell instances of the sequences that have ended otherwise than by their last step."""
        endings, model.sequences.endings = model.sequences.endings, []
        for instance, (client, sequence), reason in endings:
            header = m.EndSequence(sequence=sequence, client=client, reason=reason)
            self.sends.append(Send(Link.BACKEND, instance.peer, header))

    def lose_steps(self, model: ModelState, steps: list[Pending], why: str, now: float) -> None:
        """Answer steps whose sequence has ended under them."""
        for step in steps:
            sequence = step.header.sequence
            name = sequence.id if sequence else ""
            self.fail(step, Code.SEQUENCE_LOST, f"sequence_id {name!r}: the sequence has ended, {why}", now, "sequence")
        if model.sequences.endings:
            self.tell_endings(model)

    def _send_batch(
        self, model: ModelState, instance: Instance, requests: list[Pending], closed: m.CloseReason, now: float
    ) -> None:
        self._batch_id += 1
        batch = InFlight(self._batch_id, requests, closed, now)
        items: list[m.BatchItem] = []
        frames: list[Any] = []
        for ticket, pending in enumerate(requests):
            header = pending.header
            pending.queue_us = int((now - pending.arrived_at) * 1e6)
            left_us = max(1, int((pending.deadline - now) * 1e6))
            items.append(
                m.BatchItem(
                    ticket,
                    len(pending.frames),
                    header.payload,
                    left_us,
                    header.sequence,
                    header.trace,
                    pending.is_suspect,
                    header.request_id,
                    header.data,
                    header.places,
                )
            )
            if pending.frames:
                frames.extend(pending.frames)
        model.dispatcher.begin(instance, batch, now)
        instance.device.begin(instance, model.spec.slots)
        if model.pace.rate:
            model.pace.took(batch.size, now)
        if self.telemetry is not None:
            self.telemetry.dispatched(model, instance, batch, now)
        self.sends.append(Send(Link.BACKEND, instance.peer, m.Batch(id=batch.id, items=items), frames))

    def result(self, instance: Instance, header: m.Result, frames: Any, now: float) -> None:
        """Pass an instance's answers on, and give it what is due when it has done a batch."""
        batch = instance.in_flight.get(header.batch)
        if batch is None:
            return
        model: ModelState = instance.state
        at = 0
        for item in header.items:
            own = frames[at : at + item.frames] if item.frames else ()
            at += item.frames
            pending = batch.requests[item.ticket] if 0 <= item.ticket < batch.size else None
            if pending is None:
                continue
            if item.final:
                batch.requests[item.ticket] = None
                batch.open -= 1
            if pending.state is State.IN_FLIGHT:
                self._answer(model, instance, batch, pending, header, item, own, now)
            elif item.final and pending.is_held:
                self.release(pending, m.SlotFate.FREE)
        if not header.done:
            return
        for pending in batch.requests:
            if pending is not None and pending.state is State.IN_FLIGHT:
                self.fail(pending, Code.INTERNAL, f"instance {instance.name} closed the batch without an answer", now)
            if pending is not None and pending.is_held:
                self.release(pending, m.SlotFate.FREE)
        model.active_at = now
        model.figures.ran(header.compute_us / 1e6, batch.size, batch.waited_s)
        if now >= model.learn_at:
            model.learn_at = now + LEARN_EVERY_S
            model.service.saw(batch.size, now - instance.began_at)
        model.batcher.compute_s = model.figures.compute_s
        model.dispatcher.end(instance, batch, now)
        if not instance.in_flight:
            self.rest(instance, now)
            if not model.spec.stateless:
                model.sequences.look_at(instance)
        self._touch(model, now)

    def rest(self, instance: Instance, now: float) -> None:
        """The instance computes no more: its slot is free for whoever is next."""
        device: Device = instance.device
        device.end(instance)
        if device.claimed:
            self._shared[device] = now

    def fail(self, pending: Pending, code: Code, why: str, now: float, reason: str = "") -> None:
        """Give a request its final answer without the model; whatever an instance still says of it is dropped.

        Args:
            pending: A request; nothing happens if it was answered, as one of a sequence that ended may have been.
            code: What it is told.
            why: And in words.
            now: Monotonic seconds.
            reason: What it is counted under; empty: the code.
        """
        if pending.state is State.DONE:
            return
        model: ModelState | None = pending.model
        orphans: list[Pending] = []
        if model is not None:
            reason = reason or code.lower()
            if pending.state is State.QUEUED:
                orphans = model.discard(pending)
            elif pending.state is State.IN_FLIGHT and not model.spec.stateless:
                orphans = model.sequences.answered(pending, now, has_failed=True)
            model.figures.drops[reason] += 1
            if code in _LOAD:
                model.figures.dropped += 1
            elif code is not Code.CANCELLED:
                model.figures.failed += 1
            model.active_at = now
            if self.telemetry is not None:
                self.telemetry.dropped(pending, code, reason, now)
        fate = m.SlotFate.SUSPECT if pending.is_suspect else m.SlotFate.FREE
        is_slotted = pending.header.flags & m.RequestFlag.SLOTTED
        if pending.state is State.IN_FLIGHT and is_slotted and not pending.is_suspect:
            pending.is_held = True
            fate = m.SlotFate.HELD
        if code is not Code.CANCELLED:
            response = m.Response(id=pending.header.id, code=code, error=why, fate=fate)
            self._respond(pending.peer, response, ())
        elif is_slotted and not pending.is_held:
            self.release(pending, fate)
        self.requests.close(pending)
        if orphans and model is not None:
            self.lose_steps(model, orphans, "its start was not run", now)

    def release(self, pending: Pending, fate: m.SlotFate) -> None:
        """Tell the bridge what becomes of the slots of a request that was answered while an instance held it."""
        pending.is_held = False
        fate = m.SlotFate.SUSPECT if pending.is_suspect else fate
        self.sends.append(Send(Link.FRONTEND, pending.peer, m.Released(ids=[pending.header.id], fate=fate)))

    def _respond(self, peer: bytes, response: m.Response, frames: Any) -> None:
        answers = self._answers.get(peer)
        if answers is None:
            answers = self._answers[peer] = ([], [])
        answers[0].append(response)
        response.frames = len(frames)
        if frames:
            answers[1].extend(frames)

    def _touch(self, model: ModelState, now: float) -> None:
        """Dispatch this model's requests once all that came together has been handled: they fill a batch better."""
        self._touched[model] = now

    def take_sends(self) -> list[Send]:
        """Remove and return what is to be sent: all answers for one bridge together, before anything else for it."""
        while self._touched or self._shared:
            while self._touched:
                self.dispatch(*self._touched.popitem())
            if self._shared:
                self._share(*self._shared.popitem())
        sends, self.sends = self.sends, []
        if self._answers:
            answers, self._answers = self._answers, {}
            joined = [Send(Link.FRONTEND, peer, m.Responses(items=i), f) for peer, (i, f) in answers.items()]
            return joined + sends
        return sends

    def _answer(
        self,
        model: ModelState,
        instance: Instance,
        batch: InFlight,
        pending: Pending,
        result: m.Result,
        item: m.ResultItem,
        frames: Any,
        now: float,
    ) -> None:
        served = m.Served(
            pending.queue_us,
            result.compute_us,
            batch.size,
            batch.closed,
            instance.name,
            instance.hello.model_version,
            result.decode_us,
        )
        response = m.Response(
            id=pending.header.id,
            code=item.code,
            error=item.error,
            final=item.final,
            payload=item.payload,
            served=served,
            fate=m.SlotFate.SUSPECT if pending.is_suspect else m.SlotFate.FREE,
            data=item.data,
            places=item.places,
        )
        self._respond(pending.peer, response, frames)
        if not item.final:
            pending.is_partial = True
            return
        if item.code:
            model.figures.failed += 1
        else:
            model.figures.executed += 1
        if self.telemetry is not None:
            self.telemetry.executed(pending, instance, batch, item.code, now)
        orphans: list[Pending] = []
        if not model.spec.stateless:
            orphans = model.sequences.answered(pending, now, has_failed=bool(item.code))
        self.requests.close(pending)
        if orphans:
            self.lose_steps(model, orphans, "its start has failed", now)


def _why_late(pending: Pending, now: float) -> str:
    waited = now - pending.arrived_at
    if pending.state is State.IN_FLIGHT:
        return f"no answer within {waited:.3f} s: the model is still running it"
    if pending.model is not None and not pending.model.dispatcher.all:
        return f"no answer within {waited:.3f} s: no instance of model {pending.header.model!r} became ready"
    return f"no answer within {waited:.3f} s: still waiting in the queue"


def _wrong_rows(model: ModelState, pending: Pending) -> str:
    return f"leading axis: expected 1 to {model.queue.limit} rows (batch_size), found {pending.header.rows}"
