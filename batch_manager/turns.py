"""Start batches: those that are due, on instances that are free, on devices that have a slot for them.

Pure. Which requests a batch holds is the batchers', whose turn it is on a device where slots are scarce devices.py's.
This is the hot path: nothing here reads a tensor, looks at other models, or costs more with more models, instances or
requests (heaps aside).
"""

import heapq
from collections.abc import Callable, Iterator
from typing import Any

from batch_manager.devices import Device
from batch_manager.dispatcher import InFlight, Instance, InstanceMode
from batch_manager.model_state import ModelState
from batch_manager.queues import Pending
from batch_manager.sends import Link, Send
from batch_manager.telemetry import Telemetry
from inferoxy import messages as m


class Turns:
    """Models with something to start, and when there will be something.

    Args:
        first_batch_id: Batch ids count from here; those of an earlier run must not come again.
        on_demand: Called when sequences wait for an instance that is not there.
        telemetry: Told of every batch.
    """

    def __init__(
        self, first_batch_id: int, on_demand: Callable[[float], None], telemetry: Telemetry | None = None
    ) -> None:
        self.sends: list[Send] = []  # for the caller to take
        self.telemetry = telemetry
        self._on_demand = on_demand
        self._batch_id = first_batch_id
        self._touched: dict[ModelState, float] = {}  # models with something to dispatch, and since when
        self._shared: dict[Device, float] = {}  # devices on which it may be somebody's turn, and since when
        self._rechecks: dict[Device, None] = {}  # devices on which it may become somebody's turn by itself
        self._due: list[tuple[float, int, ModelState]] = []
        self._due_count = 0

    def next_wakeup(self) -> float:
        """The instant at which `wake` has something to do."""
        at = self._due[0][0] if self._due else float("inf")
        return min(at, *[device.recheck_at for device in self._rechecks]) if self._rechecks else at

    def wake(self, now: float) -> Iterator[ModelState]:
        """Start the batches whose time has come; gives the models that were looked at."""
        while self._due and self._due[0][0] <= now:
            at, _, model = heapq.heappop(self._due)
            if at >= model.due_at:
                model.due_at = float("inf")
            if at >= model.hopeless_at:
                model.hopeless_at = float("inf")
            self.dispatch(model, now)
            yield model
        for device in [device for device in self._rechecks if device.recheck_at <= now]:
            self._shared[device] = now

    def touch(self, model: ModelState, now: float) -> None:
        """Dispatch this model's requests once all that came together has been handled: they fill a batch better."""
        self._touched[model] = now

    def run(self) -> None:
        """Dispatch the models that were touched, and share the slots that came free."""
        while self._touched or self._shared:
            while self._touched:
                touched, self._touched = self._touched, {}
                for model in touched if len(touched) == 1 else sorted(touched, key=_order):
                    self.dispatch(model, touched[model])
                    model.urgency = 0
                for model, now in touched.items():
                    if model.queue.is_full():
                        self._send_ahead(model, now)
            if self._shared:
                self._share(*self._shared.popitem())

    def dispatch(self, model: ModelState, now: float) -> None:
        """Send the model's instances what is due, or claim slots for it."""
        if not model.spec.stateless:
            self._dispatch_steps(model, now)
            return
        dispatcher = model.dispatcher
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

    def _send_ahead(self, model: ModelState, now: float) -> None:
        """Give busy instances their next batch if it is full and nobody else wants their slots."""
        dispatcher = model.dispatcher
        while dispatcher.busy and model.queue.is_full():
            instance = dispatcher.pick_busy()
            if not instance.device.is_quiet(model) or (model.budget_s and model.is_pressed_by(instance)):
                return
            self._send_batch(model, instance, model.batcher.take_full(), m.CloseReason.FULL, now)

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
                self.touch(claim.model, now)
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
        model.started_at = now
        if model.pace.rate:
            model.pace.took(batch.size, now)
        if self.telemetry is not None:
            self.telemetry.dispatched(model, instance, batch, now)
        self.sends.append(Send(Link.BACKEND, instance.peer, m.Batch(id=batch.id, items=items), frames))

    def rest(self, instance: Instance, now: float) -> None:
        """The instance computes no more: its slot is free for whoever is next."""
        device: Device = instance.device
        device.end(instance)
        if device.claimed:
            self._shared[device] = now

    def tell_endings(self, model: ModelState) -> None:
        """Tell instances of the sequences that have ended otherwise than by their last step."""
        endings, model.sequences.endings = model.sequences.endings, []
        for instance, (client, sequence), reason in endings:
            header = m.EndSequence(sequence=sequence, client=client, reason=reason)
            self.sends.append(Send(Link.BACKEND, instance.peer, header))

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


def _order(model: ModelState) -> int:
    """Who is dispatched first of models that have got something together: the highest priority that came."""
    return -max(model.urgency, model.spec.priority)
