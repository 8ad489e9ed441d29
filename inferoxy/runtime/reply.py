"""Answers to one batch, as RESULT messages.

Invariant: every ticket of the batch gets exactly one final ResultItem, whatever happens to its answer on the way.
Pictures are drawn and encoded in the pool; the message that closes the batch leaves when the last of them is done,
while the model already computes the next batch.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from time import monotonic
from typing import Any

from msgspec import Raw

from inferoxy import tensors as tensor_rules
from inferoxy import wire
from inferoxy.arena import SLOT_MIN_BYTES
from inferoxy.errors import Code, InferoxyError, ModelError
from inferoxy.messages import Result, ResultItem, ResultPayload, Tensor
from inferoxy.runtime.backend import PICTURE, Answer, Signature
from inferoxy.runtime.intake import Item, PreparedBatch
from inferoxy.runtime.sdk import Array
from inferoxy.runtime.stacking import split

Frame = Any
MAX_ERROR_CHARS = 4096
TRACEBACK_EVERY_S = 1.0

log = logging.getLogger("inferoxy.runtime")
_logged_at = -TRACEBACK_EVERY_S


class Reply:
    """Collects the answers to one batch.

    Args:
        batch: What is answered.
        signature: Of the model.
        pool: Where pictures are encoded.
        send: Takes the frames of one RESULT message, and whether it is the last; called in the computing thread or in a
            pool thread.
    """

    def __init__(
        self, batch: PreparedBatch, signature: Signature, pool: Executor, send: Callable[[list[Frame], bool], None]
    ) -> None:
        self._batch = batch
        self._signature = signature
        self._pool = pool
        self._send = send
        self._items: list[ResultItem] = []
        self._frames: list[Frame] = []
        self._later: list[tuple[Item, Sequence[Answer]]] = []
        self._lock = threading.Lock()

    def fail(self, item: Item, error: Exception) -> None:
        """The request has failed."""
        code, message = describe(error)
        self._items.append(ResultItem(item.ticket, code=code, error=message))

    def rows(self, items: Sequence[Item], outputs: dict[str, Array]) -> None:
        """Each request's rows of a stacked result. Hot path: payloads of one form are encoded once."""
        rows = [item.rows for item in items]
        fresh = self._signature.fresh_outputs
        parts = {name: split(array, rows, fresh) for name, array in outputs.items()}
        payloads: dict[Any, Raw] = {}
        at = 0
        for index, item in enumerate(items):
            wanted = item.payload.outputs or outputs
            if item.payload.form == "prediction":
                self.answers(item, [Answer({name: outputs[name][at : at + item.rows] for name in wanted})])
            else:
                mine = [parts[name][index] for name in wanted]
                if item.writer is not None and any(len(part) >= SLOT_MIN_BYTES for part in mine):
                    tensors = self._stacked_tensors(item.rows, wanted, outputs)
                    mine = [part for tensor, part in zip(tensors, mine, strict=True) if not _place(item, tensor, part)]
                    payload = wire.encode_payload(ResultPayload(tensors))
                else:
                    key = (item.rows, *wanted)
                    known = payloads.get(key)
                    if known is None:
                        tensors = self._stacked_tensors(item.rows, wanted, outputs)
                        known = payloads[key] = wire.encode_payload(ResultPayload(tensors))
                    payload = known
                self._frames += mine
                self._items.append(ResultItem(item.ticket, len(mine), payload))
            at += item.rows

    def answers(self, item: Item, answers: Sequence[Answer]) -> None:
        """The request's answers, in order. Those with a picture are finished in the pool."""
        if item.payload.picture and answers and answers[-1].final:
            self._later.append((item, answers))
        else:
            self._append(*self._encode(item, answers))

    def end(self, item: Item) -> None:
        """The request was answered before; nothing more follows."""
        self._items.append(ResultItem(item.ticket))

    def flush(self) -> None:
        """Send what is there; the batch goes on."""
        if self._items:
            self._send_result(done=False, compute_us=0)

    def finish(self, compute_s: float) -> None:
        """Close the batch: send everything, once the pictures are done."""
        compute_us = int(compute_s * 1e6)
        if not self._later:
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

    def _encode(self, item: Item, answers: Sequence[Answer]) -> tuple[list[ResultItem], list[Frame]]:
        """Never raises: what goes wrong here becomes the request's error."""
        items: list[ResultItem] = []
        frames: list[Frame] = []
        try:
            for answer in answers:
                payload, more = self._encode_one(item, answer)
                items.append(ResultItem(item.ticket, len(more), payload, final=answer.final))
                frames += more
        except Exception as exc:  # the model's drawing, or a prediction that cannot be encoded
            code, message = describe(exc)
            items.append(ResultItem(item.ticket, code=code, error=message))
        return items, frames

    def _encode_one(self, item: Item, answer: Answer) -> tuple[Any, list[Frame]]:
        wish = item.payload
        tensors: list[Tensor] = []
        frames: list[Frame] = []
        prediction = None
        if wish.form == "prediction":
            prediction = answer.prediction()
        else:
            for spec in self._signature.outputs:
                array = answer.tensors.get(spec.name)
                wanted = spec.name in wish.outputs if wish.outputs else True
                if array is not None and wanted and not (wish.picture and spec.name == PICTURE):
                    raw = tensor_rules.to_bytes(array)
                    tensor = Tensor(spec.name, spec.datatype, array.shape)
                    tensors.append(tensor)
                    if not _place(item, tensor, raw):
                        frames.append(raw if self._signature.fresh_outputs else bytes(raw))
        image = answer.picture() if wish.picture else None
        if image is not None:
            from inferoxy.runtime.decode import encode_picture

            picture = Tensor(PICTURE, "UINT8", image.shape, encoding=wish.picture)
            tensors.append(picture)
            encoded = encode_picture(image, wish.picture)
            if not _place(item, picture, encoded):
                frames.append(encoded)
        try:
            return wire.encode_payload(ResultPayload(tensors, prediction, answer.parameters or {})), frames
        except (TypeError, ValueError, OverflowError, RecursionError) as exc:
            raise ModelError(f"prediction: expected what JSON can hold, found: {exc}") from exc

    def _stacked_tensors(self, rows: int, wanted: Iterable[str], outputs: dict[str, Array]) -> list[Tensor]:
        return [
            Tensor(name, self._signature.output_datatypes[name], (rows, *outputs[name].shape[1:])) for name in wanted
        ]

    def _append(self, items: list[ResultItem], frames: list[Frame]) -> None:
        self._items += items
        self._frames += frames

    def _send_result(self, done: bool, compute_us: int) -> None:
        decode_us = int(self._batch.decode_s * 1e6)
        result = Result(batch=self._batch.id, items=self._items, done=done, compute_us=compute_us, decode_us=decode_us)
        frames, self._items, self._frames = self._frames, [], []
        self._send(wire.encode(result, frames), done)


def _place(item: Item, tensor: Tensor, data: Any) -> bool:
    """Put a large output into the request's reply slot, if it has one and there is room; else it goes in a frame."""
    if item.writer is None or len(data) < SLOT_MIN_BYTES:
        return False
    tensor.slot = item.writer.put(data)
    return tensor.slot is not None


def describe(error: BaseException) -> tuple[str, str]:
    """Code and message for the caller; what the model's own code raised is logged with its traceback too."""
    if isinstance(error, InferoxyError):
        return error.code, error.message[:MAX_ERROR_CHARS]
    global _logged_at
    if monotonic() - _logged_at >= TRACEBACK_EVERY_S:
        _logged_at = monotonic()
        log.warning("the model raised", exc_info=error)
    return Code.MODEL_ERROR, f"{type(error).__name__}: {error}".rstrip(": ")[:MAX_ERROR_CHARS]
