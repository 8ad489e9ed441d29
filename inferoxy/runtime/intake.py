"""From a BATCH message to requests that a backend can run.

Runs in the thread that owns the socket, while the model computes the batch before: payloads are decoded, each request
is validated by itself, and pictures are given to the pool. What came with one request can spoil that request alone.
Hot path: a request of raw tensors costs one payload decode, one look-up and one length comparison per tensor; do not
add work per request.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from math import inf
from time import monotonic
from typing import Any, cast

import numpy as np

from inferoxy import tensors as tensor_rules
from inferoxy import wire
from inferoxy.arena import ArenaView, SlotWriter
from inferoxy.errors import InferoxyError, InternalError, InvalidRequest, ModelError
from inferoxy.messages import Batch, BatchItem, Payload, Tensor
from inferoxy.runtime.backend import PICTURE, Backend, EachBackend, StackedBackend
from inferoxy.runtime.inputs import VARIES, Inputs, Layout, check_picture, group_of
from inferoxy.runtime.sdk import Array, Request
from inferoxy.sockets import buffer

Chunk = bytes | memoryview | Array  # one tensor: its bytes, or an array where it has been decoded


class Item:
    """One request of a batch on its way through the instance; `error` says why it will not be run."""

    __slots__ = (
        "chunks", "client", "deadline", "error", "group", "layout", "payload", "request", "rows", "sequence", "ticket",
        "writer",
    )  # fmt: skip

    chunks: list[Chunk]  # in the order of the model's inputs
    group: tuple[Any, ...]
    layout: Layout
    payload: Payload
    request: Request  # where requests are not stacked
    rows: int

    def __init__(self, item: BatchItem, now: float) -> None:
        self.ticket = item.ticket
        self.client = item.client
        self.sequence = item.sequence
        self.deadline = now + item.timeout_us / 1e6 if item.timeout_us > 0 else inf
        self.error: Exception | None = None
        self.writer: SlotWriter | None = None  # where large outputs go, if anywhere


class PreparedBatch:
    """A batch whose requests are being made ready; they are when `wait` has returned."""

    __slots__ = ("_futures", "arrived", "decode_s", "id", "items")

    def __init__(self, id: int, items: list[Item], arrived: float) -> None:
        self.id = id
        self.items = items
        self.arrived = arrived
        self.decode_s = 0.0
        self._futures: list[Future[float]] = []

    @property
    def needs_pool(self) -> bool:
        """Whether pool threads have work to do for it."""
        return bool(self._futures)

    def expect(self, future: "Future[float]") -> None:
        """Let `wait` wait for this as well."""
        self._futures.append(future)

    def wait(self) -> None:
        """Block until every request is ready or has an error."""
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
    """

    def __init__(self, backend: Backend, batch_size: int, pool: Executor, arena: ArenaView | None = None) -> None:
        self._arena = arena
        self._stacked = isinstance(backend, StackedBackend)
        self._each = backend if isinstance(backend, EachBackend) else None
        self._prepares = self._each is not None and self._each.prepares
        self._inputs = Inputs(backend.signature, self._stacked, batch_size)
        self._outputs = [spec.name for spec in backend.signature.outputs]
        self._draws = backend.signature.draws
        self._gives_picture = PICTURE in self._outputs
        self._pool = pool

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
                self._read(item, wire.decode_payload(source.payload), mine)
                if item.payload.reply is not None and self._arena is not None and not source.again:
                    item.writer = SlotWriter(item.payload.reply, self._arena.open(item.payload.reply))
            except InferoxyError as exc:
                item.error = exc
            except (ValueError, OverflowError) as exc:  # numpy's, about a shape no array can have
                item.error = InvalidRequest(f"tensors: {exc}")
        prepared = PreparedBatch(batch.id, items, now)
        self._start(prepared)
        return prepared

    def _read(self, item: Item, payload: Payload, frames: Sequence[wire.Frame]) -> None:
        item.payload = payload
        item.layout = layout = self._inputs.find(payload.tensors)
        if payload.outputs or payload.picture:
            self._check_wishes(payload)
        left = iter(frames)
        chunks: list[Chunk] = []
        for tensor, size in zip(payload.tensors, layout.sizes, strict=True):
            chunk = tensor_bytes(tensor, left, self._arena)
            if size not in (len(chunk), VARIES):
                tensor_rules.check_size(tensor.name, tensor.datatype, tensor.shape, len(chunk))
            chunks.append(chunk)
        if next(left, None) is not None:
            expected = sum(tensor.slot is None for tensor in payload.tensors)
            raise InvalidRequest(f"tensors: expected {expected} frames, found {len(frames)}")
        item.chunks = [chunks[i] for i in layout.order] if len(chunks) > 1 else chunks
        item.rows, item.group = layout.rows, layout.group
        if not self._stacked and not layout.encoded:
            self._make_request(item)

    def _check_wishes(self, payload: Payload) -> None:
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
        item.request = Request(arrays, payload.parameters, payload.request_id, draw)

    def _start(self, prepared: PreparedBatch) -> None:
        busy = [item for item in prepared.items if item.error is None and (self._prepares or item.layout.encoded)]
        if busy:
            shared = self._each.begin(len(busy)) if self._each else None
            for row, item in enumerate(busy):
                prepared.expect(self._pool.submit(self._work, item, shared, row))

    def _work(self, item: Item, shared: Any, row: int) -> float:
        """In a pool thread: decode a request's pictures and let the backend prepare it; returns when it was done."""
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


def tensor_bytes(tensor: Tensor, frames: Iterator[wire.Frame], arena: ArenaView | None) -> bytes | memoryview:
    """Where a tensor's bytes are: the only place that knows.

    Args:
        tensor: As it stands in the payload.
        frames: The request's frames that no tensor before it has taken.
        arena: Shared memory, if the instance sees any.

    Raises:
        InvalidRequest: There is no frame left, or no such slot.
    """
    if tensor.slot is not None:
        if arena is None:
            raise InvalidRequest(f"tensor {tensor.name!r}: expected its bytes in a frame, found a slot")
        return arena.open(tensor.slot).toreadonly()
    for frame in frames:
        return frame if type(frame) is bytes else buffer(frame)
    raise InvalidRequest(f"tensor {tensor.name!r}: expected a frame with its bytes, found none")
