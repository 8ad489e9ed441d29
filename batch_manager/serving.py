"""What becomes of a request: accepted or refused, batched, sent, answered.

Pure. Who is connected and what is registered is core.py's. This is the hot path: nothing here reads a tensor, looks at
other models, or costs more with more models, instances or requests (heaps aside).
Invariants: an accepted request gets exactly one final answer; an expired or cancelled one is never sent to an instance
afterwards.
"""

import heapq
from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple

from batch_manager.dispatcher import InFlight, Instance
from batch_manager.model_state import ModelState
from batch_manager.queues import Pending, State
from batch_manager.request_table import RequestTable
from inferoxy import messages as m
from inferoxy.errors import Code, InferoxyError


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
        on_demand: Called when a model without instances gets its first request.
    """

    def __init__(self, first_batch_id: int, on_demand: Callable[[float], None]) -> None:
        self.requests = RequestTable()
        self.sends: list[Send] = []
        self._touched: dict[ModelState, float] = {}  # models with something to dispatch, and since when
        self._answers: dict[bytes, tuple[list[m.Response], list[Any]]] = {}  # by bridge
        self._on_demand = on_demand
        self._batch_id = first_batch_id
        self._due: list[tuple[float, int, ModelState]] = []
        self._due_count = 0

    def next_wakeup(self) -> float:
        """The instant at which `wake` has something to do."""
        at = self.requests.next_deadline()
        return min(at, self._due[0][0]) if self._due else at

    def wake(self, now: float) -> None:
        """Answer what has expired and send the batches whose queue delay is over."""
        while (late := self.requests.take_expired(now)) is not None:
            self.fail(late, Code.DEADLINE_EXCEEDED, _why_late(late, now), now)
        while self._due and self._due[0][0] <= now:
            model = heapq.heappop(self._due)[2]
            model.due_at = float("inf")
            self.dispatch(model, now)

    def accept(self, model: ModelState, pending: Pending, now: float) -> None:
        """Queue an open request for its model, or answer it at once when it cannot be queued."""
        pending.model = model
        model.active_at = now
        if model.condition.state == "failing" and not model.dispatcher.all:
            self.fail(pending, Code.MODEL_UNAVAILABLE, model.condition.error, now)
            return
        if not self._fits(model, pending, now):
            return
        model.figures.arrived()
        if model.spec.stateless:
            model.queue.push(pending)
        else:
            try:
                replaced = model.sequences.push(pending, now)
            except InferoxyError as exc:
                self.fail(pending, exc.code, exc.message, now)
                return
            for step in replaced:
                self.fail(step, Code.SEQUENCE_LOST, "the sequence was started anew", now)
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
        model.figures.dropped += 1
        limit = f"queue_size {spec.queue_size}" if by_count else f"queue_mib {spec.queue_mib}"
        victim = None
        if spec.stateless and spec.drop_policy != "reject":
            victim = model.queue.oldest() if spec.drop_policy == "drop_oldest" else model.queue.newest()
        if victim is None:
            self.fail(pending, Code.QUEUE_FULL, f"model {spec.name!r}: its queue is full ({limit})", now)
            return False
        self.fail(victim, Code.SHED, f"model {spec.name!r}: dropped for a newer request ({limit})", now)
        return True

    def dispatch(self, model: ModelState, now: float) -> None:
        """Send the model's instances what is due."""
        if not model.spec.stateless:
            model.sequences.assign(model.free_for_sequences())
            for instance in [*model.dispatcher.idle.values(), *model.dispatcher.finishing.values()]:
                steps = model.sequences.take(instance)
                if steps:
                    is_full = len(steps) >= model.sequences.limit
                    closed = m.CloseReason.FULL if is_full else m.CloseReason.IDLE
                    self._send_batch(model, instance, steps, closed, now)
            return
        dispatcher, batcher = model.dispatcher, model.batcher
        while model.queue.count and dispatcher.idle:
            due = batcher.take(now)
            if due is None:
                at = batcher.due_at()
                if at is not None and at < model.due_at:
                    model.due_at = at
                    self._due_count += 1
                    heapq.heappush(self._due, (at, self._due_count, model))
                return
            self._send_batch(model, dispatcher.pick_idle(), due[0], due[1], now)
        while dispatcher.busy and model.queue.is_full():
            self._send_batch(model, dispatcher.pick_busy(), batcher.take_full(), m.CloseReason.FULL, now)

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
        model.dispatcher.begin(instance, batch)
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
        model.batcher.compute_s = model.figures.compute_s
        model.dispatcher.end(instance, batch, now)
        self._touch(model, now)

    def fail(self, pending: Pending, code: Code, why: str, now: float) -> None:
        """Give a request its final answer without the model; whatever an instance still says of it is dropped."""
        model: ModelState | None = pending.model
        if model is not None:
            if pending.state is State.QUEUED:
                model.discard(pending)
            elif pending.state is State.IN_FLIGHT and not model.spec.stateless:
                model.sequences.answered(pending, now)
            model.figures.failed += 1
            model.active_at = now
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
        while self._touched:
            self.dispatch(*self._touched.popitem())
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
        if not model.spec.stateless:
            model.sequences.answered(pending, now)
        self.requests.close(pending)


def _why_late(pending: Pending, now: float) -> str:
    waited = now - pending.arrived_at
    if pending.state is State.IN_FLIGHT:
        return f"no answer within {waited:.3f} s: the model is still running it"
    if pending.model is not None and not pending.model.dispatcher.all:
        return f"no answer within {waited:.3f} s: no instance of model {pending.header.model!r} became ready"
    return f"no answer within {waited:.3f} s: still waiting in the queue"


def _wrong_rows(model: ModelState, pending: Pending) -> str:
    return f"leading axis: expected 1 to {model.queue.limit} rows (batch_size), found {pending.header.rows}"
