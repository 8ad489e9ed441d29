"""Inputs of the first Inferoxy's clients on their way through the batch manager, for both of its protocols.

The first Inferoxy had no bound to what waits, and its clients send without waiting for answers: so of each model as
many requests are under way as its queue surely takes, and the rest is held here, within a bound.
Invariant: every call that was begun ends by one last `on_output`, unless it is cancelled.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from bridges.legacy import inputs, outputs
from bridges.legacy.inputs import Sent
from bridges.legacy.outputs import Given
from bridges.legacy.sources import Sources, Step
from bridges.link import Link
from bridges.pending import Answer
from bridges.requests import Options, Prepared, check_options
from inferoxy import messages as m
from inferoxy.config import LimitSettings
from inferoxy.errors import Code, InferoxyError, error_from

UNDER_WAY = 64  # requests of one model
HELD_AT_MOST = 10_000  # calls
HELD_AT_MOST_BYTES = 1 << 29

OnOutput = Callable[[Given | None, bool], None]  # an output, and whether it is the last; None: there is no further one


class Call:
    """One input under way."""

    __slots__ = (
        "frames", "is_over", "link_id", "model", "on_output", "parameters", "prepared", "request_id", "sequence",
        "step",
    )  # fmt: skip

    def __init__(
        self, model: str, prepared: Prepared, frames: list[Any], parameters: dict[str, Any], on_output: OnOutput
    ) -> None:
        self.model = model
        self.prepared = prepared
        self.frames = frames
        self.parameters = parameters
        self.on_output = on_output
        self.request_id = ""
        self.sequence: int | str | None = None
        self.step: Step | None = None
        self.link_id = 0  # 0: it is not on the link
        self.is_over = False


class _Line:
    """The calls of one model: some under way, the others held, in order."""

    __slots__ = ("held", "limit", "under_way")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.under_way = 0
        self.held: deque[Call] = deque()


class Calls:
    """All calls of a bridge.

    Args:
        link: To the batch manager.
        limits: What is accepted from clients.
    """

    def __init__(self, link: Link, limits: LimitSettings) -> None:
        self._link = link
        self._limits = limits
        self._sources = Sources()
        self._lines: dict[str, _Line] = {}
        self._held = 0
        self._held_bytes = 0
        self._open = 0
        self.on_empty: Callable[[], None] | None = None

    def __len__(self) -> int:
        return self._open

    def begin(self, source: str, model: str, sent: Sent, request_id: str, on_output: OnOutput) -> Call:
        """Send an input.

        Args:
            source: Whose it is; with a stateful model the name of its sequence.
            model: Its name.
            sent: The input.
            request_id: What logs call it.
            on_output: Called with each output, never from within this call.

        Returns:
            For `cancel`.

        Raises:
            InferoxyError: It is not accepted.
        """
        view = self._link.models.find(model)
        prepared, frames = inputs.prepare(sent, view, self._limits)
        if self._held >= HELD_AT_MOST or self._held_bytes + prepared.size > HELD_AT_MOST_BYTES:
            why = f"expected at most {HELD_AT_MOST} inputs of {HELD_AT_MOST_BYTES} bytes to wait, found more"
            raise InferoxyError(why, Code.QUEUE_FULL)
        call = Call(model, prepared, frames, sent.parameters, on_output)
        call.request_id = request_id
        if view is None or not view.spec.stateless:
            call.sequence = source if sent.is_stateful else request_id
            check_options(Options(sequence=m.Sequence(call.sequence)))
        self._open += 1
        if call.sequence is None or not sent.is_stateful:
            self._enter(call, view)
        else:
            call.step, due = self._sources.add((model, source), call)
            self._send_steps(due)
        return call

    def cancel(self, call: Call) -> None:
        """Nobody waits for its outputs any more; what is over is left alone."""
        if call.is_over:
            return
        self._end(call)
        if call.link_id:
            self._link.cancel(call.link_id)
            self._leave(call)
        if call.step is not None:
            self._send_steps(self._sources.drop(call.step))

    def _send_steps(self, due: list[Step]) -> None:
        for step in due:
            self._enter(step.request, None)

    def _enter(self, call: Call, view: m.ModelView | None) -> None:
        line = self._lines.get(call.model)
        if line is None:
            size = view.spec.queue_size if view is not None else UNDER_WAY
            line = self._lines[call.model] = _Line(max(1, min(UNDER_WAY, size)))
        line.held.append(call)
        self._held += 1
        self._held_bytes += call.prepared.size
        self._advance(line)

    def _advance(self, line: _Line) -> None:
        while line.held and line.under_way < line.limit:
            call = line.held.popleft()
            self._held -= 1
            self._held_bytes -= call.prepared.size
            if not call.is_over:
                line.under_way += 1
                self._submit(call)

    def _submit(self, call: Call) -> None:
        step = None
        if call.sequence is not None:
            starts, ends = (True, True) if call.step is None else (call.step.starts, False)
            step = m.Sequence(call.sequence, starts, ends)
        request, frames = call.prepared.request(call.model, call.frames, Options(sequence=step), call.request_id)

        def on_response(response: m.Response, tensors: Sequence[Any]) -> None:
            self._on_response(call, response, tensors)

        call.link_id = self._link.submit(request, frames, on_response)

    def _on_response(self, call: Call, response: m.Response, tensors: Sequence[Any]) -> None:
        if not response.final:
            if call.step is not None:
                call.step.is_again = True  # else its client would get outputs twice
            call.on_output(self._output(call, response, tensors), False)
            return
        call.link_id = 0
        is_told = True
        due: list[Step] = []
        if call.step is not None:
            is_told, due = self._sources.answered(call.step, response.code)
        self._leave(call)
        self._send_steps(due)
        if is_told:
            self._end(call)
            call.on_output(self._output(call, response, tensors), True)

    def _output(self, call: Call, response: m.Response, tensors: Sequence[Any]) -> Given | None:
        if response.code:
            return outputs.failed(error_from(response.code, response.error), call.parameters)
        if response.payload == m.NO_PAYLOAD:
            return None
        try:
            return outputs.given(Answer(response, tensors), call.parameters)
        except InferoxyError as exc:
            return outputs.failed(exc, call.parameters)

    def _leave(self, call: Call) -> None:
        """A call is no longer on the link."""
        line = self._lines[call.model]
        line.under_way -= 1
        self._advance(line)
        if not line.under_way and not line.held:
            del self._lines[call.model]

    def _end(self, call: Call) -> None:
        call.is_over = True
        self._open -= 1
        if not self._open and self.on_empty is not None:
            self.on_empty()
