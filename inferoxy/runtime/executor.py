"""Run prepared batches on a backend, in the computing thread.

One request never disturbs another: when a call fails for several stateless requests, each is run again alone, and only
the guilty fail. What becomes of sequences is told in `_run_steps`.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor as Pool
from itertools import groupby
from time import monotonic
from typing import Any

from inferoxy import messages as m
from inferoxy.errors import DeadlineExceeded, InferoxyError, InternalError, InvalidRequest, ModelError
from inferoxy.kept import Kept
from inferoxy.runtime import stacking
from inferoxy.runtime.backend import Answer, Backend, EachBackend, Outcome, SequenceBackend, StackedBackend
from inferoxy.runtime.buffers import Buffers
from inferoxy.runtime.intake import Item, PreparedBatch
from inferoxy.runtime.outgoing import InOrder
from inferoxy.runtime.reply import MAX_FORMS, Forms, Later, Reply, describe
from inferoxy.runtime.sdk import Array
from inferoxy.runtime.sequences import Sequences


class Executor:
    """Runs batches of one model; all calls come from one thread.

    Args:
        backend: The loaded model.
        stateless: Requests are no steps of sequences, and may be run again.
        pool: Where pictures are encoded.
        send: Takes the frames of each RESULT message, in this thread or a pool thread.
    """

    def __init__(self, backend: Backend, stateless: bool, pool: Pool, send: Callable[[list[Any]], None]) -> None:
        self._backend = backend
        self._signature = backend.signature
        self._stateless = stateless
        self._pool = pool
        self._send = send
        self._in_order = None if stateless else InOrder(send)
        self._buffers = Buffers()
        self._forms: Forms = Kept(MAX_FORMS)
        self._sequences = Sequences()

    def assemble(self, batch: PreparedBatch) -> None:
        """Join a batch's inputs ahead of its turn; any thread, while the model computes another.

        What cannot be joined is left to `run`, which finds out whose fault it is.
        """
        items = batch.items
        if batch.needs_pool or not isinstance(self._backend, StackedBackend) or not self._stateless:
            return
        if any(item.error or item.is_bare_end for item in items):
            return
        if all(item.group == items[0].group for item in items):
            try:
                batch.inputs = self._join(self._backend, items)
            except InferoxyError:
                pass

    def run(self, batch: PreparedBatch, later: Later | None = None) -> float:
        """Run a batch and send its answers; returns the seconds of computing.

        Args:
            batch: Made ready by the intake.
            later: Asked behind the computing to do in another thread what need not be done before the next batch; says
                False when that has not come.
        """
        batch.wait()
        send = self._in_order.open() if self._in_order else self._send_now
        reply = Reply(batch, self._signature, self._forms, self._pool, send)
        began = monotonic()
        if batch.deadline < began:
            for item in batch.items:
                if item.error is None and item.deadline < began:
                    late_s = began - item.deadline
                    item.error = DeadlineExceeded(f"the request's time was over {late_s:.3f} s before its turn")
        if not self._stateless:
            self._run_steps(batch.items, reply)
        elif batch.inputs is not None and batch.deadline >= began:
            self._run_together(batch.items, reply, batch.inputs)
        else:
            self._run_together([item for item in batch.items if self._is_to_run(item, reply)], reply)
        compute_s = monotonic() - began
        batch.inputs = None
        reply.finish(compute_s, None if self._in_order else later)
        return compute_s

    def end_sequence(self, message: m.EndSequence) -> None:
        """The batch manager says that a sequence is over."""
        self._end(message.client, message.sequence, message.reason)

    def end_sequences(self) -> None:
        """Nobody goes on with any sequence that lives here: the instance ends, or the batch manager knows none of them.

        For the model they have failed: their clients had not ended them, and are told that their state is lost.
        """
        for model_id in self._sequences.drain():
            self._tell_end(model_id, "failed")

    def close(self) -> None:
        """End what lives and let the backend go."""
        self.end_sequences()
        self._backend.close()

    def _send_now(self, frames: list[Any], is_last: bool) -> None:
        self._send(frames)

    @staticmethod
    def _is_to_run(item: Item, reply: Reply) -> bool:
        """Whether the model is to see this request; else it is answered."""
        if item.error is not None:
            reply.fail(item, item.error)
        elif item.is_bare_end:
            reply.nothing(item)
        else:
            return True
        return False

    def _run_together(self, items: list[Item], reply: Reply, inputs: dict[str, Array] | None = None) -> None:
        """Run requests that are without fault; `inputs` are theirs, if they were joined before."""
        backend = self._backend
        if isinstance(backend, StackedBackend):
            self._run_stacked(backend, items, reply, inputs)
        elif isinstance(backend, EachBackend):
            self._run_each(backend, items, reply)
        elif isinstance(backend, SequenceBackend):
            for item in items:
                self._run_step(backend, item, reply)

    def _run_stacked(
        self, backend: StackedBackend, items: list[Item], reply: Reply, inputs: dict[str, Array] | None
    ) -> None:
        if inputs is None and len(items) > 1 and any(item.group != items[0].group for item in items):
            for _, alike in groupby(items, lambda item: item.group):
                self._run_alike(backend, list(alike), reply)
        elif items:
            self._run_alike(backend, items, reply, inputs)

    def _join(self, backend: StackedBackend, items: list[Item]) -> dict[str, Array]:
        rows = [item.rows for item in items]
        return {
            spec.name: stacking.join(
                [item.chunks[index] for item in items],
                spec.datatype,
                rows,
                items[0].group[index],
                self._buffers.take,
                backend.writable_inputs,
            )
            for index, spec in enumerate(self._signature.inputs)
        }

    def _run_alike(
        self, backend: StackedBackend, items: list[Item], reply: Reply, inputs: dict[str, Array] | None = None
    ) -> None:
        """Run requests that can be stacked; `inputs` are theirs, if they were joined before."""
        try:
            outputs = backend.infer(inputs or self._join(backend, items))
        except Exception as exc:
            self._after_failure(items, exc, reply, lambda alone: self._run_alike(backend, alone, reply))
            return
        try:
            checked = stacking.check(outputs, self._signature.outputs, sum(item.rows for item in items))
        except ModelError as exc:  # the model is wrong, not a request
            for item in items:
                reply.fail(item, exc)
        else:
            reply.rows(items, checked)

    def _run_each(self, backend: EachBackend, items: list[Item], reply: Reply) -> None:
        if not items:
            return
        try:
            outcomes = backend.infer_each([item.request for item in items])
        except Exception as exc:
            self._after_failure(items, exc, reply, lambda alone: self._run_each(backend, alone, reply))
            return
        if len(outcomes) != len(items):
            error = ModelError(f"results: expected {len(items)}, one for each request, found {len(outcomes)}")
            for item in items:
                reply.fail(item, error)
            return
        self._settle(list(zip(items, outcomes, strict=True)), reply)

    def _after_failure(
        self, items: list[Item], error: Exception, reply: Reply, run: Callable[[list[Item]], None]
    ) -> None:
        """A call for these requests has raised: blame the only one, or find out which it was."""
        if len(items) == 1 or not self._stateless:
            for item in items:
                reply.fail(item, error)
        else:
            for item in items:
                run([item])

    def _settle(self, outcomes: Sequence[tuple[Item, Outcome]], reply: Reply) -> None:
        streams: list[tuple[Item, Iterator[Answer]]] = []
        for item, outcome in outcomes:
            if isinstance(outcome, Exception):
                reply.fail(item, outcome)
            elif isinstance(outcome, Answer):
                reply.answers(item, [outcome])
            elif isinstance(outcome, Sequence):
                reply.answers(item, outcome)
            else:
                streams.append((item, outcome))
        while streams:
            reply.flush()  # whoever has an answer need not wait for the next one of others
            streams = [stream for stream in streams if self._advance(*stream, reply)]

    def _advance(self, item: Item, stream: Iterator[Answer], reply: Reply) -> bool:
        """Take the next answer of a stream; returns whether more may follow."""
        try:
            answer = next(stream)
        except StopIteration:
            reply.end(item)
            return False
        except Exception as exc:
            reply.fail(item, exc)
            return False
        reply.answers(item, [answer])
        return not answer.final

    def _run_steps(self, items: list[Item], reply: Reply) -> None:
        """Run steps of sequences, in order.

        A first step runs by itself, because nothing may run behind one that has failed: its sequence does not live.
        Any other step that fails leaves its sequence alive. A last step ends it whatever becomes of that step.
        """
        together: list[Item] = []
        for item in items:
            step = item.sequence
            if step is None:
                reply.fail(item, InvalidRequest("sequence_id: expected one, this model is stateful; found none"))
                continue
            if step.start:
                self._run_together(together, reply)
                together = []
                self._start(item, step)
            elif item.error is None and not item.is_bare_end:
                self._check_alive(item, step)
            if self._is_to_run(item, reply):
                together.append(item)
            if step.start or step.end:
                self._run_together(together, reply)
                together = []
            if step.end:
                self._end(step.client, step.id, "ended")
            elif step.start and item.error is not None:
                self._end(step.client, step.id, "failed")
        self._run_together(together, reply)

    def _run_step(self, backend: SequenceBackend, item: Item, reply: Reply) -> None:
        step = item.sequence
        if step is None:
            raise InternalError("a step without a sequence")
        try:
            outcome = backend.infer_sequence(self._sequences.find(step.client, step.id), item.request)
        except Exception as exc:
            reply.fail(item, exc)
        else:
            self._settle([(item, outcome)], reply)

    def _start(self, item: Item, step: m.Sequence) -> None:
        """Begin a sequence, unless its first step is at fault already; one that lives under its id has ended."""
        self._end(step.client, step.id, "ended")
        if item.error is not None:
            return
        model_id = self._sequences.start(step.client, step.id)
        try:
            if isinstance(self._backend, SequenceBackend):
                self._backend.start_sequence(model_id)
            elif isinstance(self._backend, EachBackend) and not item.is_bare_end:
                self._backend.begin_sequence(item.request)
        except Exception as exc:
            self._sequences.end(step.client, step.id)
            item.error = exc

    def _check_alive(self, item: Item, step: m.Sequence) -> None:
        try:
            self._sequences.find(step.client, step.id)
        except InferoxyError as exc:
            item.error = exc

    def _end(self, client: str, sequence: int | str, reason: str) -> None:
        model_id = self._sequences.end(client, sequence)
        if model_id is not None:
            self._tell_end(model_id, reason)

    def _tell_end(self, model_id: int | str, reason: str) -> None:
        if isinstance(self._backend, SequenceBackend):
            try:
                self._backend.end_sequence(model_id, reason)
            except Exception as exc:  # nobody waits for an answer to this
                describe(exc)
