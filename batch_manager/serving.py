"""What becomes of a request: accepted or refused, answered or failed.

Pure. Who is connected and what is registered is core.py's, when a batch starts turns.py's. This is the hot path:
nothing here reads a tensor, looks at other models, or costs more with more models, instances or requests (heaps aside).
Invariants: an accepted request gets exactly one final answer; an expired or cancelled one is never sent to an instance
afterwards.
"""

from collections.abc import Callable
from typing import Any

from batch_manager import shedding
from batch_manager.dispatcher import InFlight, Instance
from batch_manager.model_state import ModelState
from batch_manager.queues import Pending, State
from batch_manager.request_table import RequestTable
from batch_manager.sends import Link, Send
from batch_manager.telemetry import Telemetry
from batch_manager.turns import Turns
from inferoxy import messages as m
from inferoxy.errors import Code, InferoxyError

LEARN_EVERY_S = 0.002  # the times of quick batches are learned from samples
_LOAD = frozenset({Code.QUEUE_FULL, Code.SHED, Code.DEADLINE_EXCEEDED})  # what too much load does to requests


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
        self.turns = Turns(first_batch_id, on_demand, telemetry)
        self._answers: dict[bytes, tuple[list[m.Response], list[Any]]] = {}  # by bridge
        self._on_demand = on_demand

    def next_wakeup(self) -> float:
        """The instant at which `wake` has something to do."""
        return min(self.requests.next_deadline(), self.turns.next_wakeup())

    def wake(self, now: float) -> None:
        """Answer what has expired or become hopeless, and start the batches whose time has come."""
        while (late := self.requests.take_expired(now)) is not None:
            self.fail(late, Code.DEADLINE_EXCEEDED, _why_late(late, now), now, "deadline")
        for model in self.turns.wake(now):
            for drop in shedding.hopeless(model, now):
                self.fail(drop.pending, drop.code, drop.why, now, drop.reason)
            self.turns.watch(model)

    def accept(self, model: ModelState, pending: Pending, now: float) -> None:
        """Queue an open request for its model, or answer it at once when it cannot be queued."""
        spec = model.spec
        pending.model = model
        if not pending.priority:
            pending.priority = spec.priority
        elif pending.priority > model.urgency:
            model.urgency = pending.priority
        if spec.latency_budget_ms:
            pending.due_at = min(pending.deadline, now + model.budget_s)
        model.active_at = now
        if model.condition.state == "failing" and not model.dispatcher.all:
            self.fail(pending, Code.MODEL_UNAVAILABLE, model.condition.error, now, "unavailable")
            return
        if model.queue.stacked and not 1 <= pending.header.rows <= model.queue.limit:
            self.fail(pending, Code.INVALID_REQUEST, model.wrong_rows(pending), now)
            return
        drop = shedding.at_full_queue(model, pending)
        if drop is not None:
            self.fail(drop.pending, drop.code, drop.why, now, drop.reason)
            if drop.pending is pending:
                return
        model.figures.arrived()
        if model.is_guarded:
            model.rhythm.arrived(now, model.budget_s, model.service.predict(1))
        if spec.stateless:
            model.queue.push(pending)
            if spec.latency_budget_ms and model.dispatcher.all and model.hopeless_at == float("inf"):
                self.turns.watch(model)
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
            self.turns.touch(model, now)
        elif not model.demanded:
            model.demanded = True
            self._on_demand(now)

    def lose_steps(self, model: ModelState, steps: list[Pending], why: str, now: float) -> None:
        """Answer steps whose sequence has ended under them."""
        for step in steps:
            sequence = step.header.sequence
            name = sequence.id if sequence else ""
            self.fail(step, Code.SEQUENCE_LOST, f"sequence_id {name!r}: the sequence has ended, {why}", now, "sequence")
        if model.sequences.endings:
            self.turns.tell_endings(model)

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
        model.tally.ran(batch, header.decode_us, header.compute_us)
        if now >= model.learn_at:
            model.learn_at = now + LEARN_EVERY_S
            model.service.saw(batch.size, now - instance.began_at)
        model.batcher.compute_s = model.figures.compute_s
        model.dispatcher.end(instance, batch, now)
        if not instance.in_flight:
            self.turns.rest(instance, now)
            if not model.spec.stateless:
                model.sequences.look_at(instance)
        self.turns.touch(model, now)

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
            if code is not Code.CANCELLED:
                model.tally.failed(pending, now)
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
        self.turns.sends.append(Send(Link.FRONTEND, pending.peer, m.Released(ids=[pending.header.id], fate=fate)))

    def _respond(self, peer: bytes, response: m.Response, frames: Any) -> None:
        answers = self._answers.get(peer)
        if answers is None:
            answers = self._answers[peer] = ([], [])
        answers[0].append(response)
        response.frames = len(frames)
        if frames:
            answers[1].extend(frames)

    def take_sends(self) -> list[Send]:
        """Remove and return what is to be sent: all answers for one bridge together, before anything else for it."""
        self.turns.run()
        sends, self.turns.sends = self.turns.sends, []
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
            model.tally.failed(pending, now)
        else:
            model.figures.executed += 1
            model.tally.succeeded(pending, result.decode_us, result.compute_us, now)
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
