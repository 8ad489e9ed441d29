"""From a BATCH message to requests that a backend can run.

Runs in the thread that owns the socket, while the model computes the batch before: payloads are decoded, each request
is validated by itself, and pictures are given to the pool. What came with one request can spoil that request alone.
Hot path: a request of raw tensors costs one look-up and one length comparison per tensor; do not add work per request.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from math import inf
from time import monotonic
from typing import Any, cast

import numpy as np
from msgspec import Raw

from inferoxy import tensors as tensor_rules
from inferoxy import wire
from inferoxy.arena import ArenaView, SlotWriter
from inferoxy.errors import InferoxyError, InternalError, InvalidRequest, ModelError
from inferoxy.kept import Kept
from inferoxy.messages import NO_PAYLOAD, Batch, BatchItem, Payload
from inferoxy.runtime.backend import PICTURE, Backend, EachBackend, StackedBackend
from inferoxy.runtime.inputs import VARIES, Inputs, Layout, check_picture, group_of
from inferoxy.runtime.sdk import Array, Request
from inferoxy.sockets import buffer

MAX_KEPT = 1_024  # descriptions of requests
MAX_KEPT_BYTES = 2_048  # of one

Chunk = bytes | memoryview | Array  # one tensor: its bytes, or an array where it has been decoded


class Item:
    """One request of a batch on its way through the instance.

    `error` says why it will not be run or what running it has come to. `is_bare_end`: it only ends its sequence, and
    nothing of it but the payload is set.
    """

    __slots__ = (
        "chunks", "deadline", "error", "group", "is_bare_end", "layout", "payload", "request", "request_id", "rows",
        "sequence", "ticket", "writer",
    )  # fmt: skip

    chunks: list[Chunk]  # in the order of the model's inputs
    group: tuple[Any, ...]
    layout: Layout
    payload: Payload
    request: Request  # where requests are not stacked
    rows: int

    def __init__(self, item: BatchItem, now: float) -> None:
        self.ticket = item.ticket
        self.request_id = item.request_id
        self.sequence = item.sequence
        self.deadline = now + item.timeout_us / 1e6 if item.timeout_us > 0 else inf
        self.error: Exception | None = None
        self.is_bare_end = False
        self.writer: SlotWriter | None = None  # where large outputs go, if anywhere


class PreparedBatch:
    """A batch whose requests are being made ready; they are when `wait` has returned."""

    __slots__ = ("_futures", "_own", "arrived", "deadline", "decode_s", "id", "inputs", "items", "predicts")

    def __init__(self, id: int, items: list[Item], arrived: float) -> None:
        self.id = id
        self.items = items
        self.arrived = arrived
        self.deadline = min([item.deadline for item in items], default=inf)  # the first of its requests'
        self.predicts = any(item.error is None and item.payload.form == "prediction" for item in items)
        self.decode_s = 0.0
        self.inputs: dict[str, Array] | None = None  # of all items together, where they have been joined already
        self._futures: list[Future[float]] = []
        self._own: Callable[[], float] | None = None

    @property
    def needs_pool(self) -> bool:
        """Whether there is work to do before it can be run."""
        return self._own is not None or bool(self._futures)

    def expect(self, future: "Future[float]") -> None:
        """Let `wait` wait for this as well."""
        self._futures.append(future)

    def leave(self, work: Callable[[], float]) -> None:
        """Let `wait` do this itself."""
        self._own = work

    def wait(self) -> None:
        """Return when every request is ready or has an error."""
        if self._own is not None:
            self.decode_s = self._own() - self.arrived
            self._own = None
        if self._futures:
            self.decode_s = max([future.result() for future in self._futures]) - self.arrived
            self._futures = []


class Intake:
    """Makes the batches of one model ready.

    Args:
        backend: The loaded model.
        batch_size: The most items of a batch.
        pool: Where pictures are decoded.
        arena: Shared memory that tensors may lie in; None: the instance sees none.
        is_idle: Whether the computing thread has nothing to do: then it prepares a single picture itself, because
            waking a thread of the pool would take longer than it saves.
    """

    def __init__(
        self,
        backend: Backend,
        batch_size: int,
        pool: Executor,
        arena: ArenaView | None = None,
        is_idle: Callable[[], bool] = lambda: False,
    ) -> None:
        self._is_idle = is_idle
        self._arena = arena
        self._stacked = isinstance(backend, StackedBackend)
        self._each = backend if isinstance(backend, EachBackend) else None
        self._prepares = self._each is not None and self._each.prepares
        self._inputs = Inputs(backend.signature, self._stacked, batch_size)
        self._outputs = [spec.name for spec in backend.signature.outputs]
        self._draws = backend.signature.draws
        self._gives_picture = PICTURE in self._outputs
        self._pool = pool
        self._kept: Kept[bytes, tuple[Payload, Layout]] = Kept(MAX_KEPT)

    def prepare(self, batch: Batch, frames: Sequence[wire.Frame]) -> PreparedBatch:
        """Validate a batch's requests and start what can run beside the model."""
        now = monotonic()
        items = []
        at = 0
        for source in batch.items:
            item = Item(source, now)
            items.append(item)
            mine = frames[at : at + max(source.frames, 0)]
            at += len(mine)
            try:
                if len(mine) != source.frames:
                    raise InternalError(f"batch {batch.id}: expected {source.frames} frames, found {len(mine)}")
                self._read(item, source, mine)
            except InferoxyError as exc:
                item.error = exc
            except (ValueError, OverflowError) as exc:  # numpy's, about a shape no array can have
                item.error = InvalidRequest(f"tensors: {exc}")
        prepared = PreparedBatch(batch.id, items, now)
        self._start(prepared)
        return prepared

    def _read(self, item: Item, source: BatchItem, frames: Sequence[wire.Frame]) -> None:
        sequence = source.sequence
        if sequence is not None and sequence.end and self._read_bare_end(item, source, frames):
            return
        raw = bytes(source.payload)
        item.payload, layout = payload, _ = self._kept.get(raw) or self._understand(raw)
        item.layout = layout
        if source.places != NO_PAYLOAD:
            frames = self._fetch(item, source, frames)
        chunks = self._chunks(source.data, payload, frames)
        for tensor, size, chunk in zip(payload.tensors, layout.sizes, chunks, strict=True):
            if size not in (len(chunk), VARIES):
                tensor_rules.check_size(tensor.name, tensor.datatype, tensor.shape, len(chunk))
        item.chunks = [chunks[i] for i in layout.order] if len(chunks) > 1 else chunks
        item.rows, item.group = layout.rows, layout.group
        if not self._stacked and not layout.encoded:
            self._make_request(item)

    @staticmethod
    def _read_bare_end(item: Item, source: BatchItem, frames: Sequence[wire.Frame]) -> bool:
        """Whether the last request of a sequence has no tensors, and so is not to be run."""
        payload = wire.decode_payload(source.payload)
        if payload.tensors:
            return False
        wire.spread((), source.data, frames)
        item.payload, item.is_bare_end = payload, True
        return True

    def _understand(self, raw: bytes) -> tuple[Payload, Layout]:
        payload = wire.decode_payload(Raw(raw))
        layout = self._inputs.find(payload.tensors)
        if payload.outputs or payload.picture:
            self._check_wishes(payload)
        known = (payload, layout)
        # Parameters are the model's to change, so every request has its own.
        is_kept = len(raw) <= MAX_KEPT_BYTES and not payload.parameters
        return self._kept.keep(raw, known) if is_kept else known

    @staticmethod
    def _chunks(data: bytes, payload: Payload, frames: Sequence[wire.Frame]) -> list[Chunk]:
        """The bytes of each tensor of a request."""
        if len(payload.tensors) == 1 and payload.tensors[0].inline == len(data) and not frames:
            return [data]
        spread = wire.spread(payload.tensors, data, frames)
        # Inline bytes are copied, because behind others they need not be aligned.
        return [
            bytes(part) if tensor.inline is not None else part if type(part) is bytes else buffer(part)
            for tensor, part in zip(payload.tensors, spread, strict=True)
        ]

    def _fetch(self, item: Item, source: BatchItem, frames: Sequence[wire.Frame]) -> list[wire.Frame]:
        """The bytes of the tensors that are not inline, out of shared memory and frames; notes the reply slot."""
        places = wire.decode_places(source.places)
        if self._arena is None:
            raise InvalidRequest(
                "places: expected the tensors in frames, found slots, and no shared memory is seen here"
            )
        if places.reply is not None and not source.again:
            item.writer = SlotWriter(places.reply, self._arena.open(places.reply))
        rest = iter(frames)
        whole: list[wire.Frame] = []
        for slot in places.slots:
            frame = next(rest, None) if slot is None else self._arena.open(slot).toreadonly()
            if frame is None:
                raise InvalidRequest(f"tensors: expected {places.slots.count(None)} frames, found {len(frames)}")
            whole.append(frame)
        return whole + list(rest)

    def _check_wishes(self, payload: Payload) -> None:
        tensor_rules.check_outputs(payload.outputs)
        for name in payload.outputs:
            if name not in self._outputs:
                raise InvalidRequest(f"output {name!r}: expected one of {', '.join(self._outputs)}")
        if payload.picture and not self._draws:
            raise InvalidRequest(
                f"picture: expected none to be asked for, found {payload.picture}: this model draws none"
            )

    def _make_request(self, item: Item) -> None:
        arrays = {
            tensor.name: chunk
            if isinstance(chunk, np.ndarray)
            else tensor_rules.from_bytes(tensor.name, tensor.datatype, tensor.shape, chunk)
            for tensor, chunk in zip(item.layout.tensors, item.chunks, strict=True)
        }
        payload = item.payload
        draw = payload.picture != ""
        if self._gives_picture and payload.form == "tensors":
            draw = draw or not payload.outputs or PICTURE in payload.outputs
        item.request = Request(arrays, payload.parameters or {}, item.request_id, draw)

    def _start(self, prepared: PreparedBatch) -> None:
        busy = [
            item
            for item in prepared.items
            if item.error is None and not item.is_bare_end and (self._prepares or item.layout.encoded)
        ]
        if busy:
            shared = self._each.begin(len(busy)) if self._each else None
            if len(busy) == 1 and self._is_idle():
                prepared.leave(partial(self._work, busy[0], shared, 0))
                return
            for row, item in enumerate(busy):
                prepared.expect(self._pool.submit(self._work, item, shared, row))

    def _work(self, item: Item, shared: Any, row: int) -> float:
        """Decode a request's pictures and let the backend prepare it; returns when it was done.

        Runs in a thread of the pool, or in the computing one.
        """
        try:
            if item.layout.encoded:
                self._decode(item)
            if self._each is not None:
                self._each.prepare(item.request, shared, row)
        except InferoxyError as exc:
            item.error = exc
        except Exception as exc:  # a library's, about this request alone
            item.error = ModelError(f"{type(exc).__name__}: {exc}")
        return monotonic()

    def _decode(self, item: Item) -> None:
        try:
            from inferoxy.runtime.decode import decode_picture
        except ImportError as exc:
            raise ModelError(
                f"picture: this environment cannot decode any, inferoxy[vision] is missing: {exc}"
            ) from exc
        for index, (tensor, spec) in enumerate(zip(item.layout.tensors, self._inputs.specs, strict=True)):
            if tensor.encoding:
                data = cast(memoryview, item.chunks[index])
                image = decode_picture(data, tensor.encoding, tensor.shape)
                image = image[None] if len(spec.shape) == image.ndim + 1 else image
                check_picture(spec, image.shape)
                item.chunks[index] = image
        if self._stacked:
            item.group = group_of([c.shape if isinstance(c, np.ndarray) else t.shape
                                   for t, c in zip(item.layout.tensors, item.chunks, strict=True)])  # fmt: skip
        else:
            self._make_request(item)
