"""The link of a bridge to the batch manager: requests out, answers back to whoever asked.

What is open and until when is pending.py's; the meaning of payloads is the bridges'.
Invariants: every request that `submit` took is answered exactly once, by the batch manager, by its deadline or by
`close`, unless it is cancelled; what is sent in one turn of the loop travels in as few ZeroMQ messages as possible.

Hot path: submit -> _flush, _on_message. One timer serves all deadlines; nothing there logs or makes a task.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from bridges.collecting import COLLECT_AT_MOST, Collector, OnDone
from bridges.departed import Departed
from bridges.models import ModelIndex
from bridges.pending import Answer, OnResponse, Pending, PendingRequests, refresh_timeout
from bridges.questions import Questions
from bridges.slots import Placer, RequestSlots
from inferoxy import logs, sockets, wire
from inferoxy import messages as m
from inferoxy.arena import OwnedSlot
from inferoxy.errors import Code, InferoxyError

PING_S = 0.25
SILENT_S = 1.0  # without a word for so long the batch manager counts as away, and requests are held
GRACE_S = 0.5  # the batch manager enforces deadlines; this is for when it cannot
JOIN_AT_MOST = 256  # requests in one message
_ENDED = "the server ended before an answer came"


class Link:
    """One per bridge process; made, used and closed on one asyncio loop.

    Args:
        context: The process's ZeroMQ context.
        endpoint: The batch manager's frontend.
        name: What the bridge is, such as "rest"; made unique for this process.
        placer: Puts large tensors into shared memory; None: all travel in frames.

    Attributes:
        name: What the batch manager knows this link by; no other process has it.
    """

    def __init__(self, context: zmq.Context[Any], endpoint: str, name: str, placer: Placer | None = None) -> None:
        self.placer = placer
        self._held: dict[int, RequestSlots] = {}  # of requests that are answered, but not by their instance
        self.models = ModelIndex()
        self._loop = asyncio.get_running_loop()
        self._log = logs.get()
        self._pending = PendingRequests()
        self._outbox: list[Pending] = []
        self._cancelled: list[int] = []
        self._departed = Departed()
        self._questions = Questions()
        self._epoch = 0
        self._heard_at = 0.0
        self._is_here = False
        self._was_cut = False
        self._is_closed = False
        self._empty: asyncio.Future[None] | None = None
        self.name = f"{name}-{secrets.token_hex(4)}"
        dealer = sockets.dealer(context, endpoint, self.name.encode(), immediate=True)
        self._socket = sockets.LoopSocket(dealer, self._on_message, self._on_drained)
        self._flushing: asyncio.Handle | None = None
        self._gathers = False
        self.after_answers: Callable[[], None] | None = None  # called behind answers that came together
        self._timer: asyncio.Handle = self._loop.call_soon(self._tick)

    @property
    def is_ready(self) -> bool:
        """Whether the batch manager is there and the registered models are known."""
        return self._is_here and self.models.complete

    @property
    def open_requests(self) -> int:
        """Requests without a final answer."""
        return len(self._pending)

    def submit(
        self, request: m.Request, frames: Sequence[Any], on_response: OnResponse, body: OwnedSlot | None = None
    ) -> int:
        """Send a request and call back with each of its answers, never from within this call.

        Args:
            request: As requests.build makes it; its id is set here. timeout_us 0: the model's own timeout.
            frames: The bytes of the tensors, in order; kept until the final answer and not to be changed.
            on_response: Called with (response, frames); the last response is `final`.
            body: The slot that frames are parts of, if they are; the link gives it back when it may.

        Returns:
            The id, for `cancel`.
        """
        timeout_s = request.timeout_us / 1e6 or self.models.timeout_s(request.model, request.model_version)
        slots = None
        if self.placer is not None:
            if self.models.sees_arena(request.model, request.model_version):
                frames, slots = self.placer.place(request, frames, body)
            elif body is not None:  # the instances that saw it are gone
                frames = [bytes(frame) for frame in frames]
                self.placer.give_back(body)
        pending = self._pending.add(request, frames, on_response, self._loop.time() + timeout_s, slots)
        if self._is_here:
            self._outbox.append(pending)
            self._flush_soon()
        elif self._is_closed and self._pending.take(request.id):
            self._loop.call_soon(self._answer, pending, Code.MODEL_UNAVAILABLE, _ENDED)
        return request.id

    def take_body(self, model: str, version: str, size: int, shift: int) -> tuple[OwnedSlot, memoryview] | None:
        """A slot to receive a body into, as Placer.take_body; None too for a model that does not see shared memory."""
        if shift < 0 or self.placer is None or not self.models.sees_arena(model, version):
            return None
        return self.placer.take_body(model, size, shift)

    def give_back(self, slot: OwnedSlot) -> None:
        """A slot from `take_body` that was not submitted."""
        if self.placer is not None:
            self.placer.give_back(slot)

    def gather(self) -> None:
        """Keep what is submitted from now on until `flush`, rather than to the end of this turn of the loop."""
        self._gathers = True

    def flush(self) -> None:
        """Send what was submitted."""
        self._gathers = False
        if self._outbox or self._cancelled or self._departed:
            self._flush()

    @property
    def is_answering(self) -> bool:
        """Answers are being passed on, and `after_answers` comes behind them."""
        return self._socket.is_draining

    def cancel(self, request_id: int) -> None:
        """Nobody waits for this request any more; what has its answer already is left alone."""
        pending = self._pending.take(request_id)
        if pending is None:
            return
        if pending.is_sent:
            self._cancelled.append(request_id)
            self._flush_soon()
        self._part_with_slots(pending)
        self._note_empty()

    async def ask(self, header: m.Command | m.AskStatistics) -> Any:
        """Ask something beside requests; its answer, a Commanded or Statistics.

        Raises:
            InferoxyError: It was refused; ModelUnavailable, the batch manager is away or silent.
        """
        return await self._questions.ask(header, self._send)

    def gone(self, client: str) -> None:
        """A client of whose sequences has left: they end. Told when the batch manager is back, if it is away.

        Args:
            client: As it stands in Sequence.client.
        """
        self._departed.add(client)
        if self._is_here:
            self._flush_soon()

    def collect(
        self,
        request: m.Request,
        frames: Sequence[Any],
        on_done: OnDone,
        *,
        at_most: int = COLLECT_AT_MOST,
        body: OwnedSlot | None = None,
    ) -> int:
        """Like `submit`, with all answers at once: a list of those that carry a result, or the error.

        More than `at_most` answers, or too many bytes of them, become an error.
        """
        collector = Collector(request.model, at_most, on_done, lambda: self.cancel(request.id))
        return self.submit(request, frames, collector, body)

    async def call(self, request: m.Request, frames: Sequence[Any], *, at_most: int = COLLECT_AT_MOST) -> list[Answer]:
        """Send a request and wait for all its answers (see `collect`); cancelled when the waiting task is.

        Raises:
            InferoxyError: What became of it instead.
        """
        done: asyncio.Future[list[Answer]] = self._loop.create_future()

        def on_done(outcome: list[Answer] | InferoxyError) -> None:
            if done.done():
                return
            if isinstance(outcome, InferoxyError):
                done.set_exception(outcome)
            else:
                done.set_result(outcome)

        request_id = self.collect(request, frames, on_done, at_most=at_most)
        try:
            return await done
        finally:
            self.cancel(request_id)

    async def drain(self, timeout_s: float) -> None:
        """Return when nothing is open any more, at the latest after `timeout_s`."""
        if len(self._pending):
            self._empty = self._loop.create_future()
            await asyncio.wait([self._empty], timeout=max(0.0, timeout_s))

    def close(self) -> None:
        """Fail what is still open, and close the socket. Closing again does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        self._timer.cancel()
        for pending in self._pending.take_all():
            self._answer(pending, Code.MODEL_UNAVAILABLE, _ENDED)
        self._is_here = False
        if self._flushing is not None:
            self._flushing.cancel()
        self._socket.close()
        if self.placer is not None:
            self.placer.close()
            self.placer = None

    def _flush_soon(self) -> None:
        if self._flushing is None and not self._gathers:
            self._flushing = self._loop.call_soon(self._flush)

    def _on_drained(self) -> None:
        if self.after_answers is not None:
            self.after_answers()

    def _flush(self) -> None:
        self._flushing = None
        if self._departed and self._is_here:  # they go first, because a later client may have the same name
            for clients in self._departed.groups():
                if not self._send(wire.encode(m.Gone(clients=clients))):
                    break
        outbox, self._outbox = self._outbox, []
        group = [pending for pending in outbox if pending.is_open and not pending.is_sent]
        for at in range(0, len(group), JOIN_AT_MOST):
            self._send_requests(group[at : at + JOIN_AT_MOST])
        if self._cancelled:
            cancelled, self._cancelled = self._cancelled, []
            self._send(wire.encode(m.Cancel(ids=cancelled)))

    def _send_requests(self, group: list[Pending]) -> None:
        items: list[m.Request] = []
        frames: list[Any] = []
        for pending in group:
            pending.request.frames = len(pending.frames)
            items.append(pending.request)
            if pending.frames:
                frames += pending.frames
        if self._send(wire.encode_joined(m.Requests, items, frames)):
            for pending in group:
                pending.is_sent = True

    def _send(self, parts: list[Any]) -> bool:
        if self._socket.send(parts):
            return True
        self._is_here = False
        self._was_cut = True
        return False

    def _on_message(self, parts: list[Any]) -> None:
        try:
            for header, tensors in wire.decode(parts):
                if type(header) is m.Responses:
                    for response, own in wire.each(header, tensors):
                        self._on_response(response, own)
                elif type(header) is m.Response:
                    self._on_response(header, tensors)
                elif type(header) is m.Released:
                    for request_id in header.ids:
                        self._release(request_id, header.fate)
                elif type(header) is m.Pong:
                    self._on_pong(header.epoch)
                elif type(header) is m.Models:
                    self.models.update(header)
                elif type(header) is m.Commanded or type(header) is m.Statistics:
                    self._questions.answered(header)
        except InferoxyError as exc:
            self._log.error("the batch manager sent something malformed", reason=exc.message)

    def _on_response(self, response: m.Response, tensors: Sequence[Any]) -> None:
        pending = self._pending.take(response.id) if response.final else self._pending.find(response.id)
        if pending is not None:
            self._give(pending, response, tensors)
        elif response.final and self._held:
            self._release(response.id, response.fate)

    def _on_pong(self, epoch: int) -> None:
        now = self._heard_at = self._loop.time()
        again: list[Pending] = []
        if epoch != self._epoch:
            self.models.forget_revision()
            if self._epoch:
                self._log.info("the batch manager was restarted", open_requests=len(self._pending))
                for request_id in list(self._held):
                    self._release(request_id, m.SlotFate.SUSPECT)
                for pending in self._pending.take_lost():
                    pending.request.flags |= m.RequestFlag.AGAIN * pending.is_sent
                    pending.is_sent = False
                    what = f"sequence {pending.request.sequence.id!r}" if pending.request.sequence else "sequence"
                    self._answer(pending, Code.SEQUENCE_LOST, f"{what}: its state was lost with the batch manager")
                again = self._pending.sent_stateless()
                for pending in again:
                    pending.request.flags |= m.RequestFlag.AGAIN
            self._epoch = epoch
        elif self._was_cut:
            again = self._pending.sent_stateless()  # it ignores those that it still has
        self._was_cut = False
        if self._is_here and not again:
            return
        self._is_here = True
        for pending in again:
            pending.is_sent = False
        self._outbox = self._pending.unsent()
        for pending in self._outbox:
            refresh_timeout(pending, now)
        if self._outbox or self._departed:
            self._flush_soon()

    def _tick(self) -> None:
        now = self._loop.time()
        self._timer = self._loop.call_at(now + PING_S, self._tick)
        if self._is_here and now - self._heard_at > SILENT_S:
            self._is_here = False
        report = {"arena": self.placer.usage()} if self.placer is not None else {}
        self._send(wire.encode(m.Ping(revision=self.models.revision, report=report)))
        for pending in self._pending.take_expired(now - GRACE_S):
            if pending.is_sent:
                self._cancelled.append(pending.request.id)
                self._flush_soon()
            where = "" if self._is_here else "; the batch manager is away"
            self._answer(pending, Code.DEADLINE_EXCEEDED, f"no answer within the request's time{where}")

    def _answer(self, pending: Pending, code: Code, why: str) -> None:
        """Answer a request that was taken from the table and has no answer from the batch manager."""
        slots, pending.slots = pending.slots, None
        self._give(pending, m.Response(id=pending.request.id, code=code, error=why), ())
        pending.slots = slots
        self._part_with_slots(pending)

    def _give(self, pending: Pending, response: m.Response, tensors: Sequence[Any]) -> None:
        slots, placer = pending.slots, self.placer
        try:
            if placer is not None and not response.code:
                if slots is not None and slots.reply is not None and response.places != m.NO_PAYLOAD:
                    tensors = placer.fetch(slots, response, tensors)
                elif tensors:
                    placer.learn(pending.request.model, tensors)
            pending.on_response(response, tensors)
        except InferoxyError as exc:
            pending.on_response(m.Response(id=response.id, code=exc.code, error=exc.message), ())
        except Exception as exc:  # the next answer in this message is another caller's
            self._loop.call_exception_handler({"message": "an answer could not be passed on", "exception": exc})
        if slots is not None and response.final:
            pending.slots = None
            self._held[response.id] = slots
            if response.fate != m.SlotFate.HELD:
                self._release(response.id, response.fate)
        if self._empty is not None:
            self._note_empty()

    def _part_with_slots(self, pending: Pending) -> None:
        """The request is over for its client; if the batch manager has it, that will say what becomes of its slots."""
        slots, pending.slots = pending.slots, None
        if slots is None:
            return
        self._held[pending.request.id] = slots
        if not pending.is_sent:
            again = pending.request.flags & m.RequestFlag.AGAIN
            self._release(pending.request.id, m.SlotFate.SUSPECT if again else m.SlotFate.FREE)

    def _release(self, request_id: int, fate: int) -> None:
        slots = self._held.pop(request_id, None) if fate != m.SlotFate.HELD else None
        if slots is not None and self.placer is not None:
            self.placer.settle(slots, fate)

    def _note_empty(self) -> None:
        if self._empty is not None and not len(self._pending) and not self._empty.done():
            self._empty.set_result(None)
