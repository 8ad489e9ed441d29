"""Answers to one batch, as RESULT messages.

Invariant: every ticket of the batch gets exactly one final ResultItem, whatever happens to its answer on the way.
Pictures are drawn and encoded in the pool; the message that closes the batch leaves when the last of them is done,
while the model already computes the next batch. So are answers described and encoded, if that has come by then.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from time import monotonic
from typing import Any

from inferoxy import tensors as tensor_rules
from inferoxy import wire
from inferoxy.arena import SLOT_MIN_BYTES
from inferoxy.errors import Code, InferoxyError
from inferoxy.kept import Kept
from inferoxy.messages import Result, ResultItem, ResultPayload, Tensor
from inferoxy.runtime.backend import PICTURE, Answer, Signature
from inferoxy.runtime.forms import Form
from inferoxy.runtime.intake import Item, PreparedBatch
from inferoxy.runtime.sdk import Array
from inferoxy.runtime.stacking import Snapshot

Frame = Any
Later = Callable[[Callable[[], list[Frame]]], bool]  # takes what makes a message, or says False
Forms = Kept[tuple[Any, ...], Form]
MAX_FORMS = 1_024
MAX_ERROR_CHARS = 4096
TRACEBACK_EVERY_S = 1.0
_NOTHING = wire.encode_payload(ResultPayload([]))

log = logging.getLogger("inferoxy.runtime")
_logged_at = -TRACEBACK_EVERY_S


class Reply:
    """Collects the answers to one batch.

    Args:
        batch: What is answered.
        signature: Of the model.
        forms: Those of earlier batches' stacked answers.
        pool: Where pictures are encoded.
        send: Takes the frames of one RESULT message, and whether it is the last; called in the computing thread or in a
            pool thread.
    """

    def __init__(
        self,
        batch: PreparedBatch,
        signature: Signature,
        forms: Forms,
        pool: Executor,
        send: Callable[[list[Frame], bool], None],
    ) -> None:
        self._batch = batch
        self._signature = signature
        self._forms = forms
        self._pool = pool
        self._send = send
        self._items: list[ResultItem] = []
        self._frames: list[Frame] = []
        self._rows: list[tuple[Sequence[Item], dict[str, Snapshot]]] = []
        self._later: list[tuple[Item, Sequence[Answer]]] = []
        self._lock = threading.Lock()

    def fail(self, item: Item, error: Exception) -> None:
        """The request has failed."""
        item.error = error
        code, message = describe(error)
        self._items.append(ResultItem(item.ticket, code=code, error=message))

    def rows(self, items: Sequence[Item], outputs: dict[str, Array]) -> None:
        """Each request's rows of a stacked result.

        Their bytes are taken now; what is said of them can wait until the model computes again (`finish`).
        """
        if self._batch.predicts:
            at = 0
            for item in items:
                wanted = item.payload.outputs or outputs
                self.answers(item, [Answer({name: outputs[name][at : at + item.rows] for name in wanted})])
                at += item.rows
            return
        fresh = self._signature.fresh_outputs
        self._rows.append((items, {name: Snapshot(array, fresh) for name, array in outputs.items()}))

    def answers(self, item: Item, answers: Sequence[Answer]) -> None:
        """The request's answers, in order. Those with a picture are finished in the pool."""
        if item.payload.picture and answers and answers[-1].final:
            self._later.append((item, answers))
        else:
            self._append(*self._encode(item, answers))

    def nothing(self, item: Item) -> None:
        """The request was only to end its sequence, which it has done."""
        self._items.append(ResultItem(item.ticket, payload=_NOTHING))

    def end(self, item: Item) -> None:
        """The request was answered before; nothing more follows."""
        self._items.append(ResultItem(item.ticket))

    def flush(self) -> None:
        """Send what is there; the batch goes on."""
        if self._items or self._rows:
            self._send_result(done=False, compute_us=0)

    def finish(self, compute_s: float, later: Later | None = None) -> None:
        """Close the batch: send everything, once the pictures are done.

        Args:
            compute_s: What the batch took.
            later: Takes the making of the message into another thread, or says False.
        """
        compute_us = int(compute_s * 1e6)
        if not self._later:
            if later is None or not later(lambda: self._encode_result(True, compute_us)):
                self._send_result(True, compute_us)
            return
        left = len(self._later)

        def draw(item: Item, answers: Sequence[Answer]) -> None:
            nonlocal left
            encoded = self._encode(item, answers)
            with self._lock:
                self._append(*encoded)
                left -= 1
                last = left == 0
            if last:
                self._send_result(True, compute_us)

        for item, answers in self._later:
            self._pool.submit(draw, item, answers)

    def _describe_rows(self) -> None:
        """Hot path: answers of one form are described once."""
        for items, outputs in self._rows:
            rows = [item.rows for item in items]
            parts = {name: output.split(rows) for name, output in outputs.items()}
            shapes = tuple([(name, output.shape) for name, output in outputs.items()])
            for index, item in enumerate(items):
                wanted = item.payload.outputs or outputs
                mine = [parts[name][index] for name in wanted]
                key = (item.rows, shapes, *wanted, *map(len, mine))
                form = self._forms.get(key)
                if form is None:
                    datatypes = self._signature.output_datatypes
                    tensors = [Tensor(name, datatypes[name], (item.rows, *outputs[name].shape)) for name in wanted]
                    form = self._forms.keep(key, Form(tensors, list(map(len, mine))))
                self._items.append(form.item(item.ticket, mine, self._frames, item.writer))
        self._rows.clear()

    def _encode(self, item: Item, answers: Sequence[Answer]) -> tuple[list[ResultItem], list[Frame]]:
        """Never raises: what goes wrong here becomes the request's error."""
        items: list[ResultItem] = []
        frames: list[Frame] = []
        try:
            for answer in answers:
                items.append(self._encode_one(item, answer, frames))
        except Exception as exc:  # the model's drawing, or a prediction that cannot be encoded
            item.error = exc
            code, message = describe(exc)
            items.append(ResultItem(item.ticket, code=code, error=message))
        return items, frames

    def _encode_one(self, item: Item, answer: Answer, frames: list[Frame]) -> ResultItem:
        wish = item.payload
        tensors: list[Tensor] = []
        parts: list[Frame] = []
        prediction = None
        if wish.form == "prediction":
            prediction = answer.prediction()
        else:
            for spec in self._signature.outputs:
                array = answer.tensors.get(spec.name)
                wanted = spec.name in wish.outputs if wish.outputs else True
                if array is not None and wanted and not (wish.picture and spec.name == PICTURE):
                    raw = tensor_rules.to_bytes(array)
                    tensors.append(Tensor(spec.name, spec.datatype, array.shape))
                    is_copied = item.writer is not None and len(raw) >= SLOT_MIN_BYTES
                    parts.append(raw if is_copied or self._signature.fresh_outputs else bytes(raw))
        image = answer.picture() if wish.picture else None
        if image is not None:
            from inferoxy.runtime.decode import encode_picture

            tensors.append(Tensor(PICTURE, "UINT8", image.shape, encoding=wish.picture))
            parts.append(encode_picture(image, wish.picture))
        form = self._form(tensors, list(map(len, parts)), prediction, answer.parameters)
        return form.item(item.ticket, parts, frames, item.writer, final=answer.final)

    def _form(
        self, tensors: list[Tensor], sizes: list[int], prediction: Any, parameters: dict[str, Any] | None
    ) -> Form:
        if prediction is not None or parameters or any(tensor.encoding for tensor in tensors):
            return Form(tensors, sizes, prediction, parameters)  # hardly ever the same again
        key = (*[(tensor.name, tensor.shape) for tensor in tensors], *sizes)
        form = self._forms.get(key)
        return form if form is not None else self._forms.keep(key, Form(tensors, sizes))

    def _append(self, items: list[ResultItem], frames: list[Frame]) -> None:
        self._items += items
        self._frames += frames

    def _send_result(self, done: bool, compute_us: int) -> None:
        self._send(self._encode_result(done, compute_us), done)

    def _encode_result(self, done: bool, compute_us: int) -> list[Frame]:
        if self._rows:
            self._describe_rows()
        decode_us = int(self._batch.decode_s * 1e6)
        result = Result(batch=self._batch.id, items=self._items, done=done, compute_us=compute_us, decode_us=decode_us)
        frames, self._items, self._frames = self._frames, [], []
        return wire.encode(result, frames)


def describe(error: BaseException) -> tuple[str, str]:
    """Code and message for the caller; what the model's own code raised is logged with its traceback too."""
    if isinstance(error, InferoxyError):
        return error.code, error.message[:MAX_ERROR_CHARS]
    global _logged_at
    if monotonic() - _logged_at >= TRACEBACK_EVERY_S:
        _logged_at = monotonic()
        log.warning("the model raised", exc_info=error)
    return Code.MODEL_ERROR, f"{type(error).__name__}: {error}".rstrip(": ")[:MAX_ERROR_CHARS]
